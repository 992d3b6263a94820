# SPDX-License-Identifier: Apache-2.0
"""The table (Markdown) and the plot (SVG) of a bench run."""

import html
import math
import statistics

# metric: (text, unit, least ratio to the peer, least ratio to the empty server)
ROWS = {
    "mkdir": ("mkdir", "/s", 1.5, None),
    "create": ("create + close", "/s", 1.5, 0.5),
    "append": ("append 4 KiB", "/s", 4, None),
    "open": ("open + read + close", "/s", None, 0.8),
    "stat": ("stat", "/s", None, 0.5),
    "rename": ("rename", "/s", 1.5, None),
    "unlink": ("unlink", "/s", 1.5, None),
    "rmdir": ("rmdir", "/s", 1.5, None),
    "small_create": ("128 KiB files, create", "/s", 2, None),
    "small_read": ("128 KiB files, cold read", "/s", 1.5, None),
    "seq_write": ("sequential write 1 MiB, until close", "MiB/s", 1, None),
    "seq_write_fsync": ("sequential write 1 MiB, until fsync", "MiB/s", None, None),
    "seq_read": ("sequential cold read 1 MiB", "MiB/s", 1, None),
    "rand_read": ("random 4 KiB direct read", "/s", 1.5, None),
    "rand_write": ("random 4 KiB direct write", "/s", 10, None),
    "rand_write_second_half": ("  the same, second half of the time", "/s", 10, None),
    "rand_mixed": ("random 4 KiB direct read and write, mixed", "/s", 100, None),
    "fill": ("one directory filled (mknod, 4 threads)", "/s", None, None),
    "list": ("one big directory listed", "entries/s", None, None),
}


def row_of(key):
    metric, _, threads = key.partition("@")
    text, unit, peer, limit = ROWS[metric]
    return (text + (f", {threads} thread{'s' if threads != '1' else ''}" if threads else ""), unit, peer, limit)


def number(value):
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 20 else f"{value:.2f}"


def ratio(value, least):
    if value is None:
        return "–"
    text = f"{value:.1f}" if value < 20 else f"{value:.0f}"
    if least is None:
        return text
    return f"{text} (≥ {least:g})" if value >= least else f"**{text}** (≥ {least:g}, missed)"


def medians(results):
    return {system: {key: statistics.median(values) for key, values in metrics.items()}
            for system, metrics in results.items()}


def table(results, memory, facts):
    mid = medians(results)
    ours, peer, limit = (mid.get(name, {}) for name in ("MoorFS", "JuiceFS", "empty server"))
    keys = [key for key in ordered(results)]
    lines = ["# Bench", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += ["", "Medians; systems interleaved in one run. Ratios are MoorFS divided by the other; what was aimed at "
              "stands in brackets. Absolute figures drift with the machine.", "",
              "| | unit | MoorFS | JuiceFS | ratio | empty server | ratio |", "|---|---|---|---|---|---|---|"]
    for key in keys:
        text, unit, least_peer, least_limit = row_of(key)
        a, b, c = ours.get(key), peer.get(key), limit.get(key)
        lines.append(f"| {text} | {unit} | {number(a)} | {number(b)} | {ratio(a / b if a and b else None, least_peer)} "
                     f"| {number(c)} | {ratio(a / c if a and c else None, least_limit)} |")
    lines += ["", "Memory, MiB of proportional set size, all processes of a mount together:", "",
              "| | " + " | ".join(memory) + " |", "|---|" + "---|" * len(memory)]
    for what in ("idle", "peak of the bench", "idle before listing", "peak while listing"):
        if any(what in values for values in memory.values()):
            lines.append(f"| {what} | " + " | ".join(number(values.get(what)) for values in memory.values()) + " |")
    return "\n".join(lines) + "\n"


def ordered(results):
    seen = {key for metrics in results.values() for key in metrics if key.partition("@")[0] in ROWS}
    order = list(ROWS)
    return sorted(seen, key=lambda key: (order.index(key.partition("@")[0]), key))


def plot(results, facts):
    """Bars of MoorFS against the peer on a logarithmic axis; a tick shows the aim."""
    mid = medians(results)
    ours, peer = mid.get("MoorFS", {}), mid.get("JuiceFS", {})
    bars = [(row_of(key)[0].strip(), ours[key] / peer[key], row_of(key)[2]) for key in ordered(results)
            if ours.get(key) and peer.get(key)]
    low = min([0.5] + [value for _, value, _ in bars])
    high = max([10] + [value for _, value, _ in bars])
    left, width, step = 330, 560, 22
    height = 70 + step * len(bars) + 40

    def x(value):
        return left + width * math.log(value / low) / math.log(high / low)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 80}" height="{height}" '
           'font-family="sans-serif" font-size="13">',
           '<rect width="100%" height="100%" fill="white"/>',
           '<text x="12" y="24" font-size="16">MoorFS divided by JuiceFS, logarithmic; a dark tick is the aim</text>',
           f'<text x="12" y="44" fill="#555">{html.escape(facts.get("machine", ""))}</text>']
    for mark in [10 ** e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]:
        if low <= mark <= high:
            out.append(f'<line x1="{x(mark):.0f}" y1="56" x2="{x(mark):.0f}" y2="{height - 30}" stroke="#ccc"/>'
                       f'<text x="{x(mark):.0f}" y="{height - 12}" text-anchor="middle" fill="#555">{mark:g}</text>')
    for i, (text, value, least) in enumerate(bars):
        y = 62 + i * step
        good = least is None or value >= least
        start, end = sorted((x(1), x(value)))
        out.append(f'<text x="{left - 10}" y="{y + 13}" text-anchor="end">{html.escape(text)}</text>')
        out.append(f'<rect x="{start:.1f}" y="{y}" width="{max(end - start, 1):.1f}" height="{step - 6}" '
                   f'fill="{"#3b7dd8" if good else "#d8743b"}"/>')
        out.append(f'<text x="{x(value) + 5:.1f}" y="{y + 13}" fill="#333">{value:.1f}</text>')
        if least:
            out.append(f'<line x1="{x(least):.1f}" y1="{y - 2}" x2="{x(least):.1f}" y2="{y + step - 4}" '
                       'stroke="#222" stroke-width="2"/>')
    out.append(f'<line x1="{x(1):.1f}" y1="56" x2="{x(1):.1f}" y2="{height - 30}" stroke="#555"/></svg>')
    return "\n".join(out) + "\n"
