"""A histogram as an SVG, without a plotting library."""

BAR_MS, MOST_MS = 10, 300
WIDTH, HEIGHT = 720, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 46, 40
COLOURS = {"typed through": "#4a9d6e", "new": "#3b6fb5", "nothing": "#b9bec7"}


def histogram(samples, figures):
    """Answers by their time; those beyond the axis are in its last bar."""
    bars = MOST_MS // BAR_MS + 1
    counts = {kind: [0] * bars for kind in COLOURS}
    for sample in samples:
        counts[sample["kind"]][min(bars - 1, int(sample["ms"] // BAR_MS))] += 1
    most = max((sum(column) for column in zip(*counts.values())), default=0) or 1
    step = (WIDTH - LEFT - RIGHT) / bars
    floor = HEIGHT - BOTTOM
    tall = floor - TOP

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12" fill="#333">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="18" font-size="14">From keystroke to answer, '
        f"{len(samples)} answers</text>",
    ]
    x = LEFT
    for kind, colour in COLOURS.items():
        parts.append(f'<rect x="{x}" y="27" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{x + 15}" y="36">{kind}</text>')
        x += 45 + 7 * len(kind)
    for share in (0, 0.5, 1):
        y = floor - tall * share
        parts.append(line(LEFT, y, WIDTH - RIGHT, y, "#e4e6ea"))
        parts.append(text(LEFT - 6, y + 4, round(most * share), "end"))
    for index in range(bars):
        y = floor
        for kind, colour in COLOURS.items():
            height = tall * counts[kind][index] / most
            if height:
                y -= height
                parts.append(
                    f'<rect x="{LEFT + index * step + 1:.1f}" y="{y:.1f}" '
                    f'width="{step - 2:.1f}" height="{height:.1f}" fill="{colour}"/>'
                )
    for ms in range(0, MOST_MS + 1, 50):
        label = f"over {ms}" if ms == MOST_MS else ms
        at = LEFT + (ms / BAR_MS + (0.5 if ms == MOST_MS else 0)) * step
        parts.append(text(at, floor + 16, label, "middle"))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "milliseconds", "middle"))
    for name in ("p50", "p95"):
        value = figures[name]
        if value is not None:
            at = LEFT + min(value, MOST_MS) / BAR_MS * step
            parts.append(line(at, TOP - 2, at, floor, "#c0392b", 'stroke-dasharray="4 3"'))
            parts.append(text(at + 4, TOP + 8, f"{name} {value:.0f} ms", "start"))
    return "\n".join([*parts, "</svg>"]) + "\n"


def line(x1, y1, x2, y2, colour, more=""):
    places = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {places} stroke="{colour}" {more}/>'


def text(x, y, content, anchor):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{content}</text>'
