"""Exercises as pages: what each needs, its notebook, folded hints and solutions.

A solution notebook is rearranged as Sphinx reads it, cell by cell, so that what it
numbers, cites and draws stays as it was. A part shows what the student's notebook
has up to the line that checks the answer; all from the answer on lies in a
<details>, after one for each hint. A directive lists all exercises.
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
TIMES = (
    (1, 45, "up to 45 minutes"),
    (46, 60, "46 to 60 minutes"),
    (61, 600, "more than an hour"),
)

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


# What is known of an exercise -----------------------------------------------------


@dataclass(frozen=True)
class Exercise:
    """What the head of a notebook and its bank of checks say."""

    name: str
    title: str
    about: str
    minutes: int
    difficulty: str
    chapter: int
    needs: str
    text: str
    parts: dict

    @property
    def chips(self) -> str:
        """Time, difficulty and number of parts, as a list in Markdown."""
        parts = f"{len(self.parts)} parts"
        return f"- {self.minutes} minutes\n- {self.difficulty}\n- {parts}"

    @property
    def levels(self) -> tuple[str, ...]:
        """The difficulties from the easiest to the hardest part."""
        levels = self.difficulty.split(" to ")
        return LEVELS[LEVELS.index(levels[0]) : LEVELS.index(levels[-1]) + 1]


def exercise(path: Path) -> Exercise:
    """Read one; ValueError, naming the file, if its head does not say enough."""
    found = HEAD.fullmatch(nbformat.read(path, as_version=4).cells[0].source)
    if not found:
        wanted = "`# Title`, then `*N minutes, difficulty. Chapter N, …*`"
        raise ValueError(f"{path}: the first cell: expected {wanted}")
    head = found.groupdict(default="")
    if not set(head["difficulty"].split(" to ")) <= set(LEVELS):
        wanted = f"{', '.join(LEVELS)}, or one of them to another"
        raise ValueError(f"{path}: difficulty: expected {wanted}")
    says = import_module(f"lib.checks.{_bank(path)}").__doc__.split("\n\n")[0]
    about = _one_line(says.partition(": ")[2])
    return Exercise(
        name=path.stem,
        title=head["title"],
        about=about[0].upper() + about[1:],
        minutes=int(head["minutes"]),
        difficulty=head["difficulty"],
        chapter=int(head["chapter"]),
        needs=_one_line(head["needs"]),
        text=head["text"],
        parts=parts(_bank(path)),
    )


def exercises(root: Path) -> list[Exercise]:
    """All of them, in the order of the banks."""
    paths = {_bank(path): path for path in root.glob(f"{FOLDER}*.ipynb")}
    return [exercise(paths[bank]) for bank in BANKS]


def _bank(path: Path) -> str:
    return path.stem.partition("_")[2]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def headings(root: Path, chapter: int) -> dict[str, str]:
    """A chapter's pages and sections: {title: path, with #anchor for a section}."""
    found = {}
    for path in sorted(root.glob(f"book/{chapter:02d}*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        text = "\n".join(c.source for c in cells if c.cell_type == "markdown")
        for level, title in re.findall(r"^(#{1,3}) (.+)$", text, re.MULTILINE):
            anchor = "" if level == "#" else f"#{default_slugify(title)}"
            found.setdefault(title, f"book/{path.name}{anchor}")
    if not found:
        raise ValueError(f"chapter: the book has no chapter {chapter}")
    return found


def linked(needs: str, places: dict[str, str]) -> str:
    """The titles in quotation marks as links; ValueError if one is no place's."""

    def link(quoted):
        title = quoted[1]
        if title not in places:
            raise ValueError(f"needs: no page or section of the chapter is {title!r}")
        return f"[“{title}”](../{places[title]})"

    return QUOTED.sub(link, needs)


def launch_links(options: dict, path: str) -> dict[str, str]:
    """Where the services in the theme's options open a file of the repository."""
    name = options["repository_url"].removeprefix("https://github.com/").rstrip("/")
    branch = options["repository_branch"]
    services = options.get("launch_buttons", {})
    links = {}
    if at := services.get("colab_url"):
        links["Colab"] = f"{at}/github/{name}/blob/{branch}/{path}"
    if at := services.get("binderhub_url"):
        links["Binder"] = f"{at}/v2/gh/{name}/{branch}?urlpath=lab/tree/{path}"
    return links


def _notebook_links(name: str, options: dict) -> str:
    launched = launch_links(options, f"exercises/{name}.ipynb").items()
    return " ".join(
        [
            f"{{download}}`Notebook <../exercises/{name}.ipynb>`",
            *(f"[{where}]({url})" for where, url in launched),
        ]
    )


# One page -------------------------------------------------------------------------


def rearranged(notebook, student, known: Exercise, head: str):
    """A solution notebook as its page wants it, with stubs from the student's."""
    stubs = {_grade_id(cell): cell.source for cell in student.cells}
    sections = [[new_markdown_cell(head)]]
    for cell in notebook.cells[1:]:
        if cell.source.startswith("progress("):
            continue  # a page knows of no reader's progress
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            sections.append([])
        sections[-1].append(cell)
    notebook.cells = []
    for section in sections:
        part = PART.match(section[0].source)
        folded = _with_folds(section, stubs, part[1], known) if part else section
        notebook.cells += folded
    return notebook


def _grade_id(cell) -> str | None:
    return cell.metadata.get("nbgrader", {}).get("grade_id")


def _with_folds(cells, stubs: dict, letter: str, known: Exercise) -> list:
    """The cells of a part: what is asked, and from the answer on what is folded."""
    start = next(i for i, cell in enumerate(cells) if _grade_id(cell))
    asked = [stubs[_grade_id(cell)] for cell in cells if _grade_id(cell)]
    solution = []
    for cell in cells[start:]:
        if not _grade_id(cell):
            solution.append(cell)
        elif cell.metadata.nbgrader.solution:
            cell.source = END.sub("", BEGIN.sub("", cell.source))
            solution.append(cell)
        else:  # the line that checks is shown with the stub, its verdict here
            solution[-1].outputs += cell.outputs
    return [
        *cells[:start],
        new_code_cell("\n\n".join(asked)),
        new_markdown_cell(_opening(letter, known.parts[f"part_{letter}"].hints)),
        *solution,
        new_markdown_cell("</div>\n</details>\n</div>"),
    ]


def _opening(letter: str, hints) -> str:
    """HTML up to the solution; Markdown would end it at an empty line."""
    whose = f'<span class="visually-hidden"> for part ({letter})</span>'
    lines = ['<div class="exercise-help">']
    for number, hint in enumerate(hints, start=1):
        text = CODE.sub(r"<code>\1</code>", escape(_one_line(hint), quote=False))
        lines += [
            '<details class="exercise-hint">',
            f"<summary>Hint {number}{whose}</summary><p>{text}</p></details>",
        ]
    lines += [
        '<details class="exercise-solution">',
        f"<summary>Solution{whose}</summary>",
        # A browser opens what a link leads into, so the place is inside.
        f'<div class="exercise-worked" id="solution-{letter}">',
    ]
    return "\n".join(lines)


def page_head(known: Exercise, places: dict[str, str], options: dict) -> str:
    """The first cell in Markdown: facts, links, and the text that was there."""
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
    solution = nbformat.reads(source[0], as_version=4)
    source[0] = nbformat.writes(rearranged(solution, student, known, head))
    app.env.note_dependency(str(students))
    app.env.note_dependency(import_module(f"lib.checks.{_bank(path)}").__file__)


def launch_what_works(app, pagename, templatename, context, doctree):
    """The theme's buttons open a page's source: a solution, or without `lib`."""
    for group in list(context.get("header_buttons", [])):
        if group.get("label") != "launch-buttons":
            continue
        if pagename.startswith(FOLDER):  # the page's head has links to the exercise
            context["header_buttons"].remove(group)
        group["buttons"] = [b for b in group["buttons"] if b["text"] != "Colab"]


# The list -------------------------------------------------------------------------


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
        text = f"""[{known.title}](../{FOLDER}{known.name}.ipynb)

{known.about}

{known.chips}

:::{{container}} exercise-links
{_notebook_links(known.name, self.config.html_theme_options)}
:::
"""
        facts = f'data-chapter="{known.chapter}" data-minutes="{known.minutes}"'
        return [
            self.html(f'<li {facts} data-levels="{" ".join(known.levels)}">'),
            *self.parse_text_to_nodes(text),
            self.html("</li>"),
        ]

    def html(self, text: str):
        return nodes.raw("", text, format="html")


def _filters(known: list[Exercise]) -> str:
    """The form, which the script shows, and the line that says how much it is."""

    def select(label, name, options):
        inside = "".join(f'<option value="{v}">{text}</option>' for v, text in options)
        return f'<label>{label} <select name="{name}">{inside}</select></label>'

    chapters = sorted({each.chapter for each in known})
    times = [(f"{least} {most}", text) for least, most, text in TIMES]
    selects = [
        select(
            "Chapter",
            "chapter",
            [("", "all"), *zip(chapters, chapters, strict=True)],
        ),
        select("Difficulty", "level", [("", "any"), *zip(LEVELS, LEVELS, strict=True)]),
        select("Time", "time", [("", "any"), *times]),
    ]
    return (
        f'<form class="exercise-filters" hidden>{"".join(selects)}</form>'
        f'<p class="exercise-count" role="status">{total(known)}</p>'
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
    app.connect("html-page-context", launch_what_works, priority=502)  # the theme's: 501
    app.connect("html-page-context", add_script)
    app.add_directive("exercise-list", ExerciseList)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
