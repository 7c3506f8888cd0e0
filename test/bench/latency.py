#!/usr/bin/env python3
"""Makes figures of what the latency runs of relay.sh wrote, in milliseconds.

  latency.py join SKIP SEEN COMMITS      p50 and p99 from the return of COMMIT to the event's being visible, then
                                         both from before the transaction was sent
  latency.py commits COMMITS...          p50 and p99 of a transaction's time
  latency.py column FILE                 p50 and p99 of a column of numbers

COMMITS is what write printed, SEEN what observe did.  Transactions of the first SKIP seconds are left out.  An event
that was never seen is an error.
"""
import sys


def percentile(values, p):
    """The smallest value that p percent do not exceed."""
    if not values:
        sys.exit("nothing was measured")
    values = sorted(values)
    return values[max(0, -(-len(values) * p // 100) - 1)]


def transactions(file):
    """Of each transaction: tag, microseconds since 1970 when it was sent, and when COMMIT had returned."""
    return [tuple(map(int, line.split())) for line in open(file)]


def join(skip, seen_file, file):
    seen = {}
    for line in open(seen_file):
        tag, at = line.split()[:2]
        if tag != "poll":
            seen.setdefault(int(tag), int(at))
    all_of = sorted(transactions(file), key=lambda t: t[2])
    if not all_of:
        sys.exit("no transaction")
    missing = [tag for tag, _, _ in all_of if tag not in seen]
    if missing:
        sys.exit(f"{len(missing)} events were never seen, the first is {missing[0]}")
    first = all_of[0][2] + int(skip) * 1000000
    late = [t for t in all_of if t[2] >= first]
    returned = [(seen[tag] - end) / 1000 for tag, _, end in late]
    sent = [(seen[tag] - begin) / 1000 for tag, begin, _ in late]
    print(*(f"{percentile(values, p):.3f}" for values in (returned, sent) for p in (50, 99)))


def commits(file):
    taken = [(end - begin) / 1000 for _, begin, end in transactions(file)]
    print(f"{percentile(taken, 50):.4f} {percentile(taken, 99):.4f}")


def column(file):
    values = [float(line) for line in open(file)]
    print(f"{percentile(values, 50):.3f} {percentile(values, 99):.3f}")


if __name__ == "__main__":
    {"join": join, "commits": commits, "column": column}[sys.argv[1]](*sys.argv[2:])
