"""An HTML document that needs no network: its sections, tiles and style."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

from otf.version import __version__


@dataclass(frozen=True)
class Section:
    """A section of a page: a title, and HTML for its text and its figure."""

    title: str
    text: str
    figure: str = ""


def document(
    title: str, head: str, sections: Sequence[Section], *, refresh_s: float | None = None
) -> str:
    """A complete document.

    Parameters
    ----------
    title
        Text.
    head
        HTML above the sections.
    refresh_s
        Seconds after which a browser reloads the page; None for never.
    """
    body = "\n".join(
        f"<section><h2>{html.escape(s.title)}</h2><p>{s.text}</p>"
        f"{f'<figure>{s.figure}</figure>' if s.figure else ''}</section>"
        for s in sections
    )
    again = f'<meta http-equiv="refresh" content="{refresh_s:.0f}">' if refresh_s else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{_POLICY}'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{again}'
        f"<title>otf: {html.escape(title)}</title><style>{_STYLE}</style></head><body><main>"
        f"{head}{body}<footer>otf {__version__}</footer></main></body></html>\n"
    )


def tiles(numbers: Sequence[tuple[str, str]]) -> str:
    """HTML of pairs of a name and a value."""
    shown = "".join(f"<div><b>{html.escape(v)}</b><span>{k}</span></div>" for k, v in numbers)
    return f'<div class="cards">{shown}</div>'


def duration(seconds: float) -> str:
    """A time in a unit that suits it."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2.0 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.3g} s"


_POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:\">"
)
"""The page needs nothing from outside, and nothing that is put into it may send anything."""

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; background: Canvas; color: CanvasText; }
main { max-width: 46rem; margin: auto; padding: 1rem; }
h1 { font-size: 1.6rem; margin: .5rem 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .3rem; }
p { margin: .3rem 0; overflow-wrap: anywhere; }
figure { margin: .5rem 0; } figure svg { width: 100%; height: auto; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .6rem; }
.cards div { background: var(--soft); border: 1px solid var(--line); border-radius: .5rem;
  padding: .5rem .7rem; } .cards b { display: block; } .cards span { font-size: .8rem; }
table { border-collapse: collapse; font-size: .9rem; } td, th { padding: .15rem .8rem .15rem 0;
  text-align: left; } .scrolled { overflow-x: auto; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; font-size: .9rem; }
dt { opacity: .7; } dd { margin: 0; overflow-wrap: anywhere; }
.narrow { display: none; } .square { max-width: 30rem; }
@media screen and (max-width: 34rem) { .wide { display: none; } .narrow { display: block; } }
.verdict { border-left: .4rem solid gray; background: var(--soft); padding: .5rem .8rem;
  margin: .8rem 0; }
.verdict.kept { border-color: #2a9d60; } .verdict.broken, .verdict.void { border-color: #d03b3b; }
.verdict.undecided { border-color: #d9822b; }
#stage { position: relative; height: 24rem; border: 1px solid var(--line); border-radius: .5rem; }
#printed { display: none; }
.controls { display: flex; flex-wrap: wrap; gap: .3rem 1rem; align-items: center;
  font-size: .9rem; } .controls input[type=range] { flex: 1 1 10rem; }
.legend i { display: inline-block; width: 5rem; height: .7rem;
  background: linear-gradient(90deg, #3b82d0, #f0c83c, #d03b3b); }
#elements { display: flex; flex-wrap: wrap; gap: .1rem .6rem; }
#elements i { display: inline-block; width: .8rem; height: .8rem; border-radius: 50%;
  border: 1px solid var(--line); vertical-align: -1px; }
footer { margin-top: 3rem; font-size: .8rem; border-top: 1px solid var(--line); }
@media print {
  section { break-inside: avoid; } body { font-size: 11pt; }
  #stage, .controls button, .controls input { display: none; }
  #printed[src] { display: block; width: 100%; }
}
"""
