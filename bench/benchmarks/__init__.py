"""One module for each thing that has a budget: `measure(bench)` gives its rows."""
