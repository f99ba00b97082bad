"""`concierge`: for developers (demo, dev, emulators) and operators (doctor, ledger)."""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dotenv import load_dotenv


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and runs one command; the process' exit code."""
    parser = _parser()
    parsed = parser.parse_args(arguments)
    load_dotenv(Path.cwd() / ".env", override=False)
    try:
        if parsed.run in _STARTS_STACK:
            _require_startable()
        code: int = parsed.run(parsed)
    except _NotStartable as error:
        print(f"concierge: {error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        code = 130
    return code


class _NotStartable(Exception):
    """A setting is missing or wrong; the message names it."""


def _require_startable() -> None:
    from cli.doctor import choose_model, require_startable
    from concierge.errors import Configuration

    # The project of the embedded Firebase; demo- projects are those that no emulator takes for real ones.
    os.environ.setdefault("GOOGLE_CLOUD_PROJECT", "demo-concierge")
    try:
        require_startable()
        if model := choose_model():
            os.environ["AI_PLATFORM_CHAT_MODEL"] = model
    except Configuration as error:
        raise _NotStartable(f"{error.message} (.env.example explains it)") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="concierge", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="one paid answer, end to end, on the embedded Firebase")
    demo.add_argument("--json", action="store_true", help="print one JSON object and nothing else on standard output")
    demo.add_argument("--text", help="what to ask")
    demo.set_defaults(run=_demo)

    dev = commands.add_parser("dev", help="the whole stack on the official ports, until interrupted")
    dev.add_argument("--data", type=Path, metavar="DIR", help="keep the state there across restarts")
    dev.set_defaults(run=_dev)

    emulators = commands.add_parser("emulators", help="run something against the embedded Firebase")
    emulators_commands = emulators.add_subparsers(required=True, metavar="COMMAND")
    execute = emulators_commands.add_parser("exec", help="run CMD with the emulators' environment variables set")
    execute.add_argument("--data", type=Path, metavar="DIR", help="keep the state there across restarts")
    execute.add_argument("command", nargs=argparse.REMAINDER, metavar="-- CMD")
    execute.set_defaults(run=_execute)

    doctor = commands.add_parser("doctor", help="check the settings, the provider and the databases")
    doctor.set_defaults(run=_doctor)

    ledger = commands.add_parser("ledger", help="for operators: check the ledger")
    ledger_commands = ledger.add_subparsers(required=True, metavar="COMMAND")
    verify = ledger_commands.add_parser("verify", help="check a receipt, a proof or an export offline, or an account")
    verify.add_argument(
        "subject", metavar="FILE|UID", help="a JSON file, - for standard input, or an account to replay"
    )
    verify.add_argument("--keys", metavar="FILE", help="trusted keys: the answer of GET /api/v1/ledger/keys")
    verify.add_argument("--checkpoint", metavar="FILE", help="a checkpoint that was trusted before")
    verify.add_argument("--consistency", metavar="FILE", help="the consistency proof between it and the receipt's")
    verify.add_argument("--json", action="store_true", help="print one JSON object")
    verify.set_defaults(run=_ledger_verify)
    audit = ledger_commands.add_parser("audit", help="what happened in a range of time, and whether it all adds up")
    audit.add_argument("--from", dest="since", metavar="TIME", help="the beginning (inclusive)")
    audit.add_argument("--to", dest="until", metavar="TIME", help="the end (exclusive); now if it is left out")
    audit.add_argument("--uid", help="one account; all if it is left out")
    audit.add_argument("--format", choices=("json", "csv"), default="json")
    audit.add_argument("--out", metavar="FILE")
    audit.set_defaults(run=_ledger_audit)
    export = ledger_commands.add_parser("export", help="everything that is held about one account")
    export.add_argument("uid")
    export.add_argument("--out", metavar="FILE")
    export.set_defaults(run=_ledger_export)
    for act in ("freeze", "unfreeze"):
        command = ledger_commands.add_parser(act, help=f"{act} an account")
        command.add_argument("uid")
        command.add_argument("--reason", required=True)
        command.set_defaults(run=_ledger_freeze, frozen=act == "freeze")
    replay = ledger_commands.add_parser("replay", help="rebuild accounts from entries alone, and compare")
    which = replay.add_mutually_exclusive_group(required=True)
    which.add_argument("uid", nargs="?")
    which.add_argument("--all", action="store_true", help="every account there is")
    replay.set_defaults(run=_ledger_replay)
    repair = ledger_commands.add_parser("repair", help="say what would repair an account, or do it")
    repair.add_argument("uid")
    repair.add_argument("--apply", action="store_true", help="do it, and lift the quarantine if nothing is wrong then")
    repair.add_argument("--reason", default="repaired by an operator", help="kept with the repair")
    repair.set_defaults(run=_ledger_repair)
    backup = ledger_commands.add_parser("backup", help="save entries that are not saved yet to Cloud Storage")
    backup.set_defaults(run=_ledger_backup)
    return parser


def _demo(parsed: argparse.Namespace) -> int:
    from cli import demo
    from cli.client import ClientError
    from cli.stack import StackError

    try:
        return demo.run(as_json=parsed.json, question=parsed.text or demo.QUESTION)
    except (ClientError, StackError) as error:
        print(f"The demo failed: {error}", file=sys.stderr)
        return 1


def _dev(parsed: argparse.Namespace) -> int:
    """Replaces this process, so that signals reach the stack directly."""
    arguments = ["--official-ports", "--schedules"]
    if parsed.data is not None:
        arguments += ["--data", str(parsed.data)]
    source = str(Path(__file__).resolve().parent.parent / "functions")
    os.execv(  # noqa: S606  # no shell is the point
        sys.executable, [sys.executable, "-m", "emulator", "--source", source, *arguments]
    )


def _execute(parsed: argparse.Namespace) -> int:
    from cli.stack import Stack, StackError

    command = parsed.command[1:] if parsed.command[:1] == ["--"] else parsed.command
    if not command:
        print("concierge emulators exec: a command is missing after --", file=sys.stderr)
        return 2
    arguments = ("--data", str(parsed.data)) if parsed.data is not None else ()
    try:
        with Stack.start(arguments=arguments) as stack:
            child = subprocess.Popen(command, env={**os.environ, **stack.environment})
            # An interrupt reaches the child as well; it decides, and the stack ends after it.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            return child.wait()
    except (StackError, OSError) as error:
        print(f"concierge emulators exec: {error}", file=sys.stderr)
        return 1


def _doctor(parsed: argparse.Namespace) -> int:
    from cli import doctor

    return doctor.run()


def _ledger_verify(parsed: argparse.Namespace) -> int:
    from cli import receipts

    options = receipts.Options(parsed.keys, parsed.checkpoint, parsed.consistency, parsed.json)
    if options.any_file or options.as_json or receipts.is_file(parsed.subject):
        return receipts.verify(parsed.subject, options)
    from cli import operator

    return operator.verify(parsed.subject)


def _ledger_audit(parsed: argparse.Namespace) -> int:
    from cli import operator

    as_csv = parsed.format == "csv"
    return operator.audit(parsed.since, parsed.until, parsed.uid, as_csv=as_csv, out=parsed.out)


def _ledger_export(parsed: argparse.Namespace) -> int:
    from cli import operator

    return operator.export(parsed.uid, parsed.out)


def _ledger_freeze(parsed: argparse.Namespace) -> int:
    from cli import operator

    return operator.set_frozen(parsed.uid, parsed.reason, frozen=parsed.frozen)


def _ledger_replay(parsed: argparse.Namespace) -> int:
    from cli import integrity

    return integrity.replay(parsed.uid)


def _ledger_repair(parsed: argparse.Namespace) -> int:
    from cli import integrity

    return integrity.repair(parsed.uid, apply=parsed.apply, reason=parsed.reason)


def _ledger_backup(parsed: argparse.Namespace) -> int:
    from cli import integrity

    return integrity.backup()


_STARTS_STACK = (_demo, _dev, _execute)


if __name__ == "__main__":
    sys.exit(main())
