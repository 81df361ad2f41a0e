"""Exercises as pages: what each needs, its notebook, folded hints and solutions; a list of all.

A solution notebook is rearranged as Sphinx reads it, cell by cell, so that what it numbers, cites and
draws stays as it was. A part shows what the student's notebook has, up to the line that checks the
answer; all from the answer on lies in a <details>, after one for each hint.
"""

import re
from dataclasses import dataclass
from html import escape
from importlib import import_module
from pathlib import Path

import nbformat
from docutils import nodes
from myst_parser.mdit_to_docutils.base import default_slugify
from nbformat.v4 import new_code_cell, new_markdown_cell
from sphinx.util.docutils import SphinxDirective

from lib.checks import BANKS, parts

FOLDER = "solutions/"
LIST = "book/exercises"
LEVELS = ("easy", "middling", "hard")
TIMES = ((1, 45, "up to 45 minutes"), (46, 60, "46 to 60 minutes"), (61, 600, "more than an hour"))

HEAD = re.compile(
    r"# (?P<title>.+)\n\n\*(?P<minutes>\d+) minutes, (?P<difficulty>[a-z ]+)\. "
    r"Chapter (?P<chapter>\d+)(?:, (?P<needs>[^*]+))?\.\*\n\n(?P<text>.+)",
    re.DOTALL,
)
QUOTED = re.compile(r'"([^"]+)"')
PART = re.compile(r"## \((\w)\) ")
BEGIN = re.compile(r"^(?: *\w+ = None\n)? *### BEGIN SOLUTION\n", re.MULTILINE)
CODE = re.compile(r"`([^`]+)`")
END = re.compile(r"\n? *### END SOLUTION")


# What is known of an exercise ---------------------------------------------------------------------


@dataclass(frozen=True)
class Exercise:
    """What the head of a notebook and its bank of checks say."""

    name: str
    title: str
    about: str
    minutes: int
    levels: tuple[str, ...]
    chapter: int
    needs: str
    text: str
    parts: dict

    @property
    def chips(self) -> str:
        """Time, difficulty and number of parts, as a list in Markdown."""
        known = (f"{self.minutes} minutes", " to ".join(self.levels), f"{len(self.parts)} parts")
        return "\n".join(f"- {chip}" for chip in known)


def exercise(path: Path) -> Exercise:
    """Read one; a head that does not say what it should raises ValueError, naming the file."""
    found = HEAD.fullmatch(nbformat.read(path, as_version=4).cells[0].source)
    if not found:
        raise ValueError(f"{path}: expected `# Title`, then `*N minutes, level. Chapter N, …*`")
    head = found.groupdict(default="")
    levels = tuple(head["difficulty"].split(" to "))
    if not set(levels) <= set(LEVELS):
        raise ValueError(f"{path}: difficulty: expected {LEVELS}, got {head['difficulty']!r}")
    bank = path.stem.partition("_")[2]
    about = import_module(f"lib.checks.{bank}").__doc__.split("\n\n")[0].partition(": ")[2]
    return Exercise(
        name=path.stem,
        title=head["title"],
        about=_one_line(about[0].upper() + about[1:]),
        minutes=int(head["minutes"]),
        levels=levels,
        chapter=int(head["chapter"]),
        needs=_one_line(head["needs"]),
        text=head["text"],
        parts=parts(bank),
    )


def exercises(root: Path) -> list[Exercise]:
    """All of them, in the order of the banks."""
    paths = {path.stem.partition("_")[2]: path for path in root.glob(f"{FOLDER}*.ipynb")}
    return [exercise(paths[bank]) for bank in BANKS]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def headings(root: Path, chapter: int) -> dict[str, str]:
    """The pages and sections of a chapter: {title: path, with #anchor for a section}."""
    found = {}
    for path in sorted(root.glob(f"book/{chapter:02d}*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        for level, title in re.findall(r"^(#{1,3}) (.+)$", text, re.MULTILINE):
            anchor = "" if level == "#" else f"#{default_slugify(title)}"
            found.setdefault(title, f"book/{path.name}{anchor}")
    return found


def linked(needs: str, places: dict[str, str]) -> str:
    """The titles in quotation marks as links; one that is not among the places raises KeyError."""
    return QUOTED.sub(lambda quoted: f"[“{quoted[1]}”](../{places[quoted[1]]})", needs)


def launch_links(options: dict, path: str) -> dict[str, str]:
    """Where Colab and Binder open a file of the repository, as far as the theme's options say."""
    repository, branch = options["repository_url"].rstrip("/"), options["repository_branch"]
    owner_and_name = repository.removeprefix("https://github.com/")
    launch = options.get("launch_buttons", {})
    links = {}
    if at := launch.get("colab_url"):
        links["Colab"] = f"{at}/github/{owner_and_name}/blob/{branch}/{path}"
    if at := launch.get("binderhub_url"):
        links["Binder"] = f"{at}/v2/gh/{owner_and_name}/{branch}?urlpath=lab/tree/{path}"
    return links


def _notebook_links(name: str, options: dict) -> str:
    launched = launch_links(options, f"exercises/{name}.ipynb").items()
    return " ".join(
        [
            f"{{download}}`Notebook <../exercises/{name}.ipynb>`",
            *(f"[{where}]({url})" for where, url in launched),
        ]
    )


# One page -----------------------------------------------------------------------------------------


def rearranged(notebook, student, known: Exercise, head: str):
    """A solution notebook as the page wants it, with the stubs of the student's notebook."""
    stubs = {c.metadata.nbgrader.grade_id: c.source for c in student.cells if _graded(c)}
    groups = [[new_markdown_cell(head)]]
    for cell in notebook.cells[1:]:
        if cell.source.startswith("progress("):
            continue  # a page knows of no reader's progress
        if cell.cell_type == "markdown" and PART.match(cell.source):
            groups.append([])
        groups[-1].append(cell)
    notebook.cells = groups[0] + [cell for group in groups[1:] for cell in _part(group, stubs, known)]
    return notebook


def _graded(cell) -> bool:
    return "grade_id" in cell.metadata.get("nbgrader", {})


def _part(cells, stubs: dict[str, str], known: Exercise) -> list:
    letter = PART.match(cells[0].source)[1]
    start = next(i for i, cell in enumerate(cells) if _graded(cell))
    given, rest = cells[:start], cells[start:]
    asked = "\n\n".join(stubs[c.metadata.nbgrader.grade_id] for c in rest if _graded(c))
    solution = []
    for cell in rest:
        if _graded(cell) and not cell.metadata.nbgrader.solution:
            solution[-1].outputs += cell.outputs  # the verdict, under what it is about
            continue
        if _graded(cell):
            cell.source = END.sub("", BEGIN.sub("", cell.source))
        solution.append(cell)
    return [
        *given,
        new_code_cell(asked),
        new_markdown_cell(_folded(letter, known.parts[f"part_{letter}"].hints)),
        *solution,
        new_markdown_cell("</div>\n</details>\n</div>"),
    ]


def _folded(letter: str, hints) -> str:
    """HTML up to where the solution begins, on lines of which none is empty, as Markdown needs it."""
    whose = f'<span class="visually-hidden"> for part ({letter})</span>'
    lines = ['<div class="exercise-help">']
    for number, hint in enumerate(hints, start=1):
        text = CODE.sub(r"<code>\1</code>", escape(_one_line(hint), quote=False))
        lines.append(
            f'<details class="exercise-hint"><summary>Hint {number}{whose}</summary>'
            f"<p>{text}</p></details>"
        )
    return "\n".join(
        [
            *lines,
            f'<details class="exercise-solution"><summary>Solution{whose}</summary>',
            # A browser opens what a link leads into, so the place is inside.
            f'<div class="exercise-worked" id="solution-{letter}">',
        ]
    )


def page_head(known: Exercise, places: dict[str, str], options: dict) -> str:
    """The first cell in Markdown: the facts, the links, and the text that was there."""
    chapter = next(iter(places.values()))
    needs = f", {linked(known.needs, places)}" if known.needs else ""
    return f"""# {known.title}

::::{{container}} exercise-head
{known.chips}

Needs [chapter {known.chapter}](../{chapter}){needs}.

:::{{container}} exercise-links
{_notebook_links(known.name, options)}

<details><summary>JupyterLab</summary><p>In your copy of the repository:</p>

```text
make lab OPEN={known.name}.ipynb
```

</details>
:::
::::

{known.text}"""


def rearrange(app, docname, source):
    """Rewrite the source of an exercise's page on the way to its parser."""
    if not docname.startswith(FOLDER):
        return
    root = Path(app.srcdir)
    path = root / f"{docname}.ipynb"
    students = root / "exercises" / path.name
    known = exercise(path)
    places = headings(root, known.chapter)
    head = page_head(known, places, app.config.html_theme_options)
    student = nbformat.read(students, as_version=4)
    notebook = rearranged(nbformat.reads(source[0], as_version=4), student, known, head)
    source[0] = nbformat.writes(notebook)
    app.env.note_dependency(str(students))
    app.env.note_dependency(import_module(f"lib.checks.{path.stem.partition('_')[2]}").__file__)


def drop_launch_buttons(app, pagename, templatename, context, doctree):
    """The theme's open a page's own source: of an exercise the solution, elsewhere without `lib`."""
    for group in context.get("header_buttons", []):
        if group.get("label") == "launch-buttons":
            if pagename.startswith(FOLDER):
                context["header_buttons"].remove(group)
            else:
                group["buttons"] = [b for b in group["buttons"] if b["text"] != "Colab"]


# The list -----------------------------------------------------------------------------------------


class ExerciseList(SphinxDirective):
    """All exercises by chapter, with filters that a script shows."""

    def run(self):
        root = Path(self.env.srcdir)
        known = exercises(root)
        for each in known:
            self.env.note_dependency(str(root / f"{FOLDER}{each.name}.ipynb"))
        listed = [self.html(_filters(known))]
        for chapter in sorted({each.chapter for each in known}):
            title = next(iter(headings(root, chapter)))
            section = nodes.section(ids=[f"chapter-{chapter}"], classes=["exercise-chapter"])
            section += nodes.title("", f"Chapter {chapter}: {title}")
            section += self.html('<ul class="exercise-list">')
            for each in known:
                if each.chapter == chapter:
                    section += self.item(each)
            section += self.html("</ul>")
            listed.append(section)
        return listed

    def item(self, known: Exercise):
        """One <li>, with what the filters ask for as data."""
        levels = LEVELS[LEVELS.index(known.levels[0]) : LEVELS.index(known.levels[-1]) + 1]
        text = f"""[{known.title}](../{FOLDER}{known.name}.ipynb)

{known.about}

{known.chips}

:::{{container}} exercise-links
{_notebook_links(known.name, self.config.html_theme_options)}
:::
"""
        return [
            self.html(
                f'<li data-chapter="{known.chapter}" data-minutes="{known.minutes}" '
                f'data-levels="{" ".join(levels)}">'
            ),
            *self.parse_text_to_nodes(text),
            self.html("</li>"),
        ]

    def html(self, text: str):
        return nodes.raw("", text, format="html")


def _filters(known: list[Exercise]) -> str:
    def select(label, name, options):
        options = "".join(f'<option value="{value}">{text}</option>' for value, text in options)
        return f'<label>{label} <select name="{name}">{options}</select></label>'

    chapters = sorted({each.chapter for each in known})
    return (
        '<form class="exercise-filters" hidden>'
        + select("Chapter", "chapter", [("", "all"), *((n, n) for n in chapters)])
        + select("Difficulty", "level", [("", "any"), *((level, level) for level in LEVELS)])
        + select("Time", "time", [("", "any"), *((f"{a} {b}", text) for a, b, text in TIMES)])
        + f'</form><p class="exercise-count" role="status">{total(known)}</p>'
    )


def total(known: list[Exercise]) -> str:
    """How many, and how long in all; the script says it in the same words."""
    hours, minutes = divmod(sum(each.minutes for each in known), 60)
    return f"{len(known)} exercises, {hours} h {minutes} min"


def add_script(app, pagename, templatename, context, doctree):
    """The filters' script, on their page only."""
    if pagename == LIST:
        app.add_js_file("exercises.js", loading_method="defer")


def setup(app):
    app.connect("source-read", rearrange)
    app.connect("html-page-context", drop_launch_buttons, priority=502)  # after the theme, 501
    app.connect("html-page-context", add_script)
    app.add_directive("exercise-list", ExerciseList)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
