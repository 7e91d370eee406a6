"""A program in a real terminal of 100 x 30 cells: keys go in, the screen comes out as text or as a picture."""

import re
import subprocess
import time
import unicodedata
from html import escape

COLUMNS, ROWS = 100, 30
FOREGROUND, BACKGROUND, FRAME = "#e0e2ea", "#14161b", "#07080d"
BASIC = ["#14161b", "#ffc0b9", "#b3f6c0", "#fce094", "#a6dbff", "#ffcaff", "#8cf8f7", "#e0e2ea",
         "#4f5258", "#ff9e93", "#83f09b", "#fad26c", "#73c7ff", "#ffa3ff", "#46f5f3", "#ffffff"]


class Terminal:
    """A tmux server of its own, with one window that runs one command."""

    def __init__(self, name, command, environment, folder):
        self.socket = f"{folder}/{name}.tmux"
        assignments = [f"{key}={value}" for key, value in environment.items()]
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", str(COLUMNS), "-y", str(ROWS),
                   "env", *assignments, *command)
        self._tmux("set-option", "-sg", "escape-time", "0")
        self._tmux("set-option", "-g", "status", "off")

    def _tmux(self, *arguments):
        done = subprocess.run(["tmux", "-u", "-S", self.socket, *arguments], capture_output=True, text=True, check=True)
        return done.stdout

    def type(self, text):
        """Types a text, character by character, as a keyboard would."""
        self._tmux("send-keys", "-l", text)

    def press(self, *keys):
        """Presses keys by their tmux names, such as Escape, Tab, Enter, M-Right, C-]."""
        self._tmux("send-keys", *keys)

    def rows(self):
        """The screen, one string a row, without colours and trailing blanks."""
        return [row.rstrip() for row in self._tmux("capture-pane", "-p", "-N").split("\n")[:ROWS]]

    def settled(self, limit=5.0):
        """The rows once they have not changed for a moment."""
        end, last = time.monotonic() + limit, None
        while (rows := self.rows()) != last and time.monotonic() < end:
            last = rows
            time.sleep(0.06)
        return rows

    def picture(self, title):
        """The screen as an SVG image."""
        column, row = map(int, self._tmux("display-message", "-p", "#{cursor_x} #{cursor_y}").split())
        return svg(self._tmux("capture-pane", "-p", "-e", "-N").split("\n")[:ROWS], (column, row), title)

    def is_alive(self):
        """Whether the command is still running."""
        return subprocess.run(["tmux", "-S", self.socket, "has-session"], capture_output=True, check=False).returncode == 0

    def close(self):
        subprocess.run(["tmux", "-S", self.socket, "kill-server"], capture_output=True, check=False)


def cells_of(character):
    if unicodedata.combining(character) or character in "\u200d\ufe0f":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def indexed(index):
    """The colour of one of the 256 numbered ones."""
    if index < 16:
        return BASIC[index]
    if index >= 232:
        return "#" + f"{8 + 10 * (index - 232):02x}" * 3
    index -= 16
    return "#" + "".join(f"{55 + 40 * level if level else 0:02x}" for level in (index // 36, index // 6 % 6, index % 6))


def restyle(style, codes):
    """The style after an escape sequence `ESC [ codes m`."""
    style, codes = dict(style), [int(code or 0) for code in re.split("[;:]", codes)]
    while codes:
        code = codes.pop(0)
        if code == 0:
            style = {}
        elif code in (38, 48):
            key = "fill" if code == 38 else "back"
            if codes.pop(0) == 2:
                style[key] = "#%02x%02x%02x" % tuple(codes[:3])
                del codes[:3]
            else:
                style[key] = indexed(codes.pop(0))
        elif 30 <= code <= 37 or 90 <= code <= 97:
            style["fill"] = BASIC[code - 30 if code < 40 else code - 82]
        elif 40 <= code <= 47 or 100 <= code <= 107:
            style["back"] = BASIC[code - 40 if code < 50 else code - 92]
        elif code in (39, 49):
            style.pop("fill" if code == 39 else "back", None)
        elif code in (1, 3, 7):
            style[{1: "bold", 3: "italic", 7: "reverse"}[code]] = True
        elif code in (22, 23, 27):
            style.pop({22: "bold", 23: "italic", 27: "reverse"}[code], None)
    return style


def runs(line, style):
    """The words of one style in a row, as (column, cells, text, style), and the style at its end."""
    found, column = [], 0
    for codes, text in re.findall(r"\x1b\[([\d;:]*)m|([^\x1b]+)|\x1b[^m]*", line):
        if not text:
            style = restyle(style, codes)
            continue
        # Wide gaps part words, so that each word keeps its place in any font.
        for piece in re.findall(r" {2,}|(?:(?! {2}).)+", text):
            width = sum(map(cells_of, piece))
            found.append((column, width, piece, style))
            column += width
    return found, style


def svg(lines, cursor, title):
    """Rows with escape sequences → an SVG image; every piece is stretched to its cells, whatever the font."""
    cell, height, pad, bar = 8.43, 18, 12, 28
    wide, high = COLUMNS * cell + 2 * pad, len(lines) * height + 2 * pad + bar
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:.0f} {high:.0f}" width="{wide:.0f}" '
           f'height="{high:.0f}" role="img" aria-label="{escape(title)}">',
           f'<rect width="100%" height="100%" rx="8" fill="{FRAME}"/>',
           f'<rect y="{bar}" width="100%" height="{high - bar - 8:.0f}" fill="{BACKGROUND}"/>',
           f'<text x="{wide / 2:.0f}" y="19" fill="#9b9ea4" font-size="13" text-anchor="middle" '
           f'font-family="sans-serif">{escape(title)}</text>',
           '<g font-family="\'DejaVu Sans Mono\', Menlo, Consolas, monospace" font-size="14" xml:space="preserve">']
    style = {}
    for row, line in enumerate(lines):
        pieces, style = runs(line, style)
        top = bar + pad + row * height
        for column, width, text, look in pieces:
            fill, back = look.get("fill", FOREGROUND), look.get("back", BACKGROUND)
            if look.get("reverse"):
                fill, back = back, fill
            left = pad + column * cell
            if back != BACKGROUND:
                out.append(f'<rect x="{left:.1f}" y="{top}" width="{width * cell:.1f}" height="{height}" fill="{back}"/>')
            shown = text.strip(" ")
            if not shown:
                continue
            left += (len(text) - len(text.lstrip(" "))) * cell
            extra = ' font-weight="bold"' * look.get("bold", False) + ' font-style="italic"' * look.get("italic", False)
            length = sum(map(cells_of, shown)) * cell
            out.append(f'<text x="{left:.1f}" y="{top + 13}" fill="{fill}" textLength="{length:.1f}"{extra}>{escape(shown)}</text>')
    column, row = cursor
    out.append(f'<rect x="{pad + column * cell:.1f}" y="{bar + pad + row * height}" width="2" height="{height}" fill="{FOREGROUND}"/>')
    return "\n".join([*out, "</g>", "</svg>", ""])
