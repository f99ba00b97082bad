"""A few journeys on a bad day: see docs/simulation.md. `make simulate JOURNEYS=50` runs more."""

import pytest
from chaos.journeys import Journey, point_of
from support.backend import Backend
from support.provider import ScriptedProvider

# Those that die at the points which no seed of the ledger's simulation comes to, and one more.
SEEDS = range(3)


@pytest.mark.parametrize("seed", SEEDS, ids=point_of)
def test_a_bad_day_leaves_the_books_in_order(own_backend: Backend, provider: ScriptedProvider, seed: int) -> None:
    outcome = Journey(seed, own_backend, provider).run()
    assert outcome.requests > 5
    own_backend.close_clients()
