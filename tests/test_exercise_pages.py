"""The exercises as a reader meets them: their pages, the list of all, and the way to a notebook."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import nbformat
import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from nbformat.v4 import new_markdown_cell, new_notebook
from site_checks import SHOW_ALL, THIN

from lib.checks import BANKS, parts

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book" / "_ext"))
import exercise_pages  # noqa: E402

NAMES = [path.stem for path in sorted(ROOT.glob("solutions/*.ipynb"))]
THEME = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))["sphinx"]["config"][
    "html_theme_options"
]
LIST = "book/exercises"
PHONE = {"width": 360, "height": 740}
TABLET = {"width": 768, "height": 1024}


def notebook(name: str, folder: str = "solutions"):
    return nbformat.read(ROOT / folder / f"{name}.ipynb", 4).cells


def first_line(name: str) -> tuple[int, str, int]:
    """Minutes, difficulty, chapter: read here without the extension's own expression."""
    line = notebook(name)[0].source.split("\n\n")[1].strip("*")
    time, _, rest = line.partition(", ")
    difficulty, _, rest = rest.partition(". Chapter ")
    return int(time.removesuffix(" minutes")), difficulty, int(rest[0])


def banks_parts(name: str) -> dict:
    return {part_name[-1]: part for part_name, part in parts(name.partition("_")[2]).items()}


@pytest.fixture
def opened(browser, site):
    """Opens a page of the site from the disk, on a tablet unless something else is said."""
    contexts = []

    def opened(name: str, place: str = "", **options):
        contexts.append(browser.new_context(**{"viewport": TABLET, **options}))
        page = contexts[-1].new_page()
        page.goto(f"{(site / name).as_uri()}.html{place}")
        page.evaluate(SHOW_ALL)
        if options.get("java_script_enabled", True):
            page.evaluate("document.fonts.ready.then(() => true)")
        return page

    yield opened
    for context in contexts:
        context.close()


# --- the first lines of a notebook ----------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_what_an_exercise_needs_is_there_once(name):
    known = exercise_pages.exercise(ROOT / "solutions" / f"{name}.ipynb")
    titles = [
        line.lstrip("# ")
        for path in ROOT.glob(f"book/{known.chapter:02d}*.ipynb")
        for cell in nbformat.read(path, 4).cells
        if cell.cell_type == "markdown"
        for line in cell.source.splitlines()
        if re.match("#{1,3} ", line)
    ]
    for title in re.findall('"(.+?)"', known.needs):
        assert titles.count(title) == 1, title


def written(tmp_path, line: str) -> Path:
    path = tmp_path / "02_leverage.ipynb"
    text = f"# Leverage\n\n*{line}*\n\nA statement."
    nbformat.write(new_notebook(cells=[new_markdown_cell(text)]), path)
    return path


def test_a_first_line_is_read(tmp_path):
    line = '20 minutes, easy to middling. Chapter 2, page "On\nreal data" for (a).'
    known = exercise_pages.exercise(written(tmp_path, line))
    assert (known.minutes, known.levels, known.chapter) == (20, ("easy", "middling"), 2)
    assert known.needs == 'page "On real data" for (a)'
    assert known.text == "A statement."
    assert known.about.startswith("Linear regression, where")
    places = {"Influence functions": "book/02.ipynb", "On real data": "book/02.ipynb#on-real-data"}
    assert "page [“On real data”](../book/02.ipynb#on-real-data) for (a)." in (
        exercise_pages.page_head(known, places, THEME)
    )


@pytest.mark.parametrize(
    "line",
    [
        "An hour, easy. Chapter 2.",
        "20 minutes, tricky. Chapter 2.",
        "20 minutes, easy to impossible. Chapter 2.",
        "20 minutes, easy.",
    ],
)
def test_a_first_line_that_says_too_little_is_an_error(tmp_path, line):
    with pytest.raises(ValueError, match=r"02_leverage\.ipynb: .*expected"):
        exercise_pages.exercise(written(tmp_path, line))


def test_a_title_that_no_page_has_is_an_error():
    with pytest.raises(ValueError, match=r"needs: .* is 'Nowhere'"):
        exercise_pages.linked('"Somewhere" and "Nowhere"', {"Somewhere": "book/02.ipynb"})


# --- a page ---------------------------------------------------------------------------------------


def plain(text: str) -> str:
    return " ".join(text.split())


def solution_only(name: str) -> list[str]:
    """What the solution says that the student's notebook does not: lines of code, first words."""
    students = "\n".join(cell.source for cell in notebook(name, "exercises"))
    lines = []
    for cell in notebook(name):
        if cell.cell_type == "code" and cell.metadata.get("nbgrader", {}).get("solution"):
            inside = cell.source.split("### BEGIN SOLUTION")[1].split("### END SOLUTION")[0]
            lines += [line.strip() for line in inside.splitlines()]
        elif "solution-only" in cell.metadata.get("tags", []) and cell.cell_type == "code":
            lines += cell.source.splitlines()
    return [line for line in lines if len(line) > 12 and line not in students]


@pytest.mark.parametrize("name", NAMES)
def test_page_of_an_exercise(opened, site, name):
    page = opened(f"solutions/{name}")
    minutes, difficulty, chapter = first_line(name)
    known = banks_parts(name)

    head = page.locator(".exercise-head")
    chips = head.locator("> ul > li").all_inner_texts()
    assert chips == [f"{minutes} minutes", difficulty, f"{len(known)} parts"]
    needs = [link.get_attribute("href") for link in head.locator("> p a").all()]
    quoted = re.findall('"', notebook(name)[0].source.split("\n\n")[1])
    assert len(needs) == 1 + len(quoted) / 2
    assert all(f"book/{chapter:02d}" in link for link in needs)
    links = {
        link.inner_text().strip(): link.get_attribute("href")
        for link in head.locator(".exercise-links a").all()
    }
    downloaded = (site / "solutions" / links.pop("Notebook")).resolve()
    assert downloaded.read_bytes() == (ROOT / "exercises" / f"{name}.ipynb").read_bytes()
    assert links == exercise_pages.launch_links(THEME, f"exercises/{name}.ipynb")

    # The hints are those of the bank, and every part has a solution that passed.
    assert page.locator("details[open]").count() == 0
    helps = page.locator(".exercise-help").all()
    assert len(helps) == len(known)
    for help_, (letter, part) in zip(helps, known.items(), strict=True):
        hints = help_.locator("> .exercise-hint > p").all_text_contents()
        assert hints == [plain(hint).replace("`", "") for hint in part.hints]
        solution = help_.locator("> .exercise-solution")
        assert solution.locator("> summary").text_content() == f"Solution for part ({letter})"
        assert solution.locator(f"#solution-{letter} .check-result.passed").count() >= 1

    # Nothing of a solution is seen before it is opened; what the student's notebook has, is.
    article = page.locator("article.bd-article")
    shown = article.inner_text()
    hidden = solution_only(name)
    assert not [line for line in hidden if line in shown]
    assert "✓ Passed" not in shown and "Why." not in shown
    code = "\n".join(page.locator("div.highlight pre").all_inner_texts())
    for cell in notebook(name, "exercises"):
        if cell.metadata.get("nbgrader", {}).get("grade_id", "install") != "install":
            assert cell.source in code
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    shown = article.inner_text()
    assert not [line for line in hidden if line not in shown]
    assert shown.count("✓ Passed") >= len(known)
    assert shown.count("### ") == 0
    page.set_viewport_size(PHONE)
    width = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width[0] <= width[1]
    for image in article.locator("img").all():
        image.scroll_into_view_if_needed()
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0


@pytest.mark.parametrize("name", NAMES)
def test_all_outputs_of_the_notebook_are_on_its_page(opened, name):
    """Moving the cells about has lost none, but for the reader's progress, which no page knows."""
    page = opened(f"solutions/{name}", java_script_enabled=False)
    outputs = [
        output
        for cell in notebook(name)
        for output in cell.get("outputs", [])
        if not cell.source.startswith("progress(")
    ]
    text = plain(page.locator("article.bd-article").text_content())
    printed = [output.text for output in outputs if output.output_type == "stream"]
    assert [p for p in printed if plain(p) not in text] == []
    drawn = [output for output in outputs if "image/svg+xml" in output.get("data", {})]
    assert page.locator(".cell_output img").count() == len(drawn)
    verdicts = [o for o in outputs if "check-result" in "".join(o.get("data", {}).values())]
    assert page.locator(".check-result").count() == len(verdicts) > 0


@pytest.mark.parametrize("scripts", [True, False])
def test_a_hint_and_a_solution_open_by_keyboard(opened, scripts):
    page = opened("solutions/02_leverage", java_script_enabled=scripts)
    for kind, text in ((".exercise-hint", "Differentiate"), (".exercise-solution", "Why.")):
        fold = page.locator(".exercise-help").nth(1).locator(f"> {kind}").first
        inside = fold.get_by_text(text).first
        assert not inside.is_visible()
        fold.locator("> summary").focus()
        page.keyboard.press("Enter")
        assert inside.is_visible()


@pytest.mark.parametrize("place", ["solution-d", "fig-suspects"])
def test_a_link_into_a_solution_opens_it(opened, place):
    page = opened("solutions/05_find_the_cause", f"#{place}")
    target = page.locator(f"#{place}")
    assert target.is_visible()
    assert page.locator("details[open]").count() == 1
    page.wait_for_function(
        "place => { const top = document.getElementById(place).getBoundingClientRect().top;"
        " return 0 <= top && top < innerHeight }",
        arg=place,
    )


def test_on_paper_solutions_are_open_and_hints_are_not_there(opened):
    page = opened("solutions/02_leverage")
    page.emulate_media(media="print")
    worked = page.locator(".exercise-worked .check-result").all()
    assert len(worked) == 7
    assert all(verdict.bounding_box()["height"] > 10 for verdict in worked)
    assert all(verdict.evaluate("e => e.checkVisibility()") for verdict in worked)
    assert not any(hint.is_visible() for hint in page.locator(".exercise-hint").all())


# What scrolls can be reached by the keyboard once it has come near.
READ = """async () => {
  for (let y = 0; y < document.body.scrollHeight; y += 400) {
    scrollTo({ top: y, behavior: "instant" });
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  }
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["solutions/02_leverage", "solutions/05_find_the_cause", LIST])
def test_axe_finds_nothing_in_what_is_open(opened, name, theme):
    page = opened(name, color_scheme=theme)
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    page.evaluate(READ)
    page.evaluate(THIN)
    # Formulas, figures and the theme's frame are as on every page, and not this test's business.
    only = {"include": [["article.bd-article"]], "exclude": [["mjx-container"], ["figure"]]}
    found = Axe().run(page, context=only).response
    assert [(fault["id"], fault["nodes"][0]["html"]) for fault in found["violations"]] == []
    assert "summary-name" in {rule["id"] for rule in found["passes"]} or name == LIST


# --- the list -------------------------------------------------------------------------------------


def listed(page) -> list[str]:
    """The names of the exercises that the list shows."""
    links = page.locator(".exercise-list > li:visible > p:first-of-type a").all()
    return [Path(link.get_attribute("href")).stem for link in links]


def in_order_of_the_banks(names) -> list[str]:
    return sorted(names, key=lambda name: BANKS.index(name.partition("_")[2]))


def told(names) -> str:
    hours, minutes = divmod(sum(first_line(name)[0] for name in names), 60)
    return f"{len(names)} exercise{'' if len(names) == 1 else 's'}, {hours} h {minutes} min"


def test_the_list_has_every_exercise_with_its_facts(opened, site):
    page = opened(LIST)
    assert listed(page) == in_order_of_the_banks(NAMES)
    assert page.get_by_role("status").inner_text() == told(NAMES)
    for name, item in zip(listed(page), page.locator(".exercise-list > li").all(), strict=True):
        minutes, difficulty, chapter = first_line(name)
        assert item.locator("ul > li").all_inner_texts() == [
            f"{minutes} minutes",
            difficulty,
            f"{len(banks_parts(name))} parts",
        ]
        section = item.locator("xpath=ancestor::section[1]")
        assert section.get_attribute("id") == f"chapter-{chapter}"
        links = [link.get_attribute("href") for link in item.locator(".exercise-links a").all()]
        assert (site / "book" / links[0]).resolve().name == f"{name}.ipynb"
        launched = exercise_pages.launch_links(THEME, f"exercises/{name}.ipynb")
        assert links[1:] == list(launched.values())


CHOICES = [
    ("Chapter", "3", lambda minutes, levels, chapter: chapter == 3),
    ("Difficulty", "hard", lambda minutes, levels, chapter: "hard" in levels),
    ("Difficulty", "easy", lambda minutes, levels, chapter: "easy" in levels),
    ("Time", "up to 45 minutes", lambda minutes, levels, chapter: minutes <= 45),
    ("Time", "46 to 60 minutes", lambda minutes, levels, chapter: 45 < minutes <= 60),
    ("Time", "more than an hour", lambda minutes, levels, chapter: minutes > 60),
]


@pytest.mark.parametrize(("label", "choice", "fits"), CHOICES, ids=[c[1] for c in CHOICES])
def test_a_filter_leaves_what_fits_and_says_how_much(opened, label, choice, fits):
    page = opened(LIST)
    page.get_by_label(label).select_option(choice)
    wanted = in_order_of_the_banks(name for name in NAMES if fits(*first_line(name)))
    assert 0 < len(wanted) < len(NAMES)
    assert listed(page) == wanted
    assert page.get_by_role("status").inner_text() == told(wanted)
    chapters = {f"Chapter {first_line(name)[2]}" for name in wanted}
    headings = page.locator(".exercise-chapter > h2:visible").all_inner_texts()
    assert {heading.partition(":")[0] for heading in headings} == chapters


def test_filters_together_and_by_keyboard(opened):
    page = opened(LIST)
    for label, keys in (("Chapter", "4"), ("Difficulty", "e")):
        page.get_by_label(label).focus()
        page.keyboard.type(keys)
    assert page.get_by_label("Chapter").input_value() == "4"
    assert page.get_by_label("Difficulty").input_value() == "easy"
    assert listed(page) == []
    assert page.get_by_role("status").inner_text() == "No exercise fits."
    page.get_by_label("Chapter").select_option("all")
    assert listed(page) == ["01_croissants"]
    assert page.get_by_role("status").inner_text() == told(["01_croissants"])


def test_without_scripts_the_whole_list_shows_and_no_filter(opened):
    page = opened(LIST, java_script_enabled=False)
    assert listed(page) == in_order_of_the_banks(NAMES)
    assert page.get_by_role("status").inner_text() == told(NAMES)
    assert not page.locator(".exercise-filters").is_visible()


# --- the way to a notebook ------------------------------------------------------------------------


def test_launch_links_follow_the_configuration():
    options = {
        "repository_url": "https://github.com/a/b/",
        "repository_branch": "dev",
        "launch_buttons": {"colab_url": "https://c.example", "binderhub_url": "https://d.example"},
    }
    assert exercise_pages.launch_links(options, "exercises/x.ipynb") == {
        "Colab": "https://c.example/github/a/b/blob/dev/exercises/x.ipynb",
        "Binder": "https://d.example/v2/gh/a/b/dev?urlpath=lab/tree/exercises/x.ipynb",
    }
    del options["launch_buttons"]["colab_url"]
    assert list(exercise_pages.launch_links(options, "x.ipynb")) == ["Binder"]
    del options["launch_buttons"]
    assert exercise_pages.launch_links(options, "x.ipynb") == {}


def launched(page) -> set[str]:
    links = page.locator("a[href*='mybinder.org'], a[href*='colab.research']").all()
    return {re.split("main(?:/|.*tree/)", link.get_attribute("href"))[1] for link in links}


def test_a_page_launches_its_own_notebook_and_no_solution(opened):
    assert launched(opened("solutions/02_leverage")) == {"exercises/02_leverage.ipynb"}
    chapter = opened("book/02_influence_functions")
    assert launched(chapter) == {"book/02_influence_functions.ipynb"}
    # A chapter's notebook does not install `lib`, so that it would fail on Colab.
    assert chapter.locator("a[href*='colab.research']").count() == 0


def test_the_command_on_the_page_opens_the_notebook(opened):
    page = opened("solutions/02_leverage")
    page.get_by_text("JupyterLab", exact=True).click()
    command = page.locator(".exercise-links pre").inner_text().split()
    assert command[:2] == ["make", "lab"]
    steps = subprocess.run(
        ["make", "-n", "--no-print-directory", "-o", ".venv/.ready", *command[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    # Nothing else: making the exercises anew would take the reader's answers away.
    assert steps.stdout.splitlines() == [".venv/bin/jupyter lab exercises/02_leverage.ipynb"]


def pins() -> dict[str, str]:
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def test_binder_gets_what_everybody_gets():
    environment = yaml.safe_load((ROOT / ".binder" / "environment.yml").read_text("utf-8"))
    wanted = dict(f"{line}=".split("=")[:2] for line in environment["dependencies"])
    assert wanted.pop("pytorch-cpu") == pins()["torch"]
    assert tuple(map(int, wanted.pop("python").split("."))) >= (3, 11)
    assert wanted == {"pip": ""}
    after = ROOT / ".binder" / "postBuild"
    assert after.stat().st_mode & 0o111, "Binder runs it only if it is executable"
    assert "pip install --no-cache-dir -r requirements.txt\n" in after.read_text("utf-8")
    assert "-e ." in (ROOT / "requirements.txt").read_text("utf-8").splitlines()


def test_lib_alone_brings_what_it_imports():
    """On Colab nothing else is installed; this looks at every import statement of lib."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    imported = {
        name
        for path in ROOT.glob("lib/**/*.py")
        for name in re.findall(r"^ *(?:import|from) (\w+)", path.read_text("utf-8"), re.MULTILINE)
    }
    distributions = packages_distributions()
    needed = {
        distributions[name][0].lower().replace("_", "-")
        for name in imported - set(sys.stdlib_module_names) - {"lib"}
    }
    assert set(project["dependencies"]) == needed


def test_lib_alone_brings_its_files():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    kept = settings["package-data"]["*"]
    files = [
        path
        for path in ROOT.glob("lib/**/*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    ]
    assert files
    assert [path.name for path in files if not any(path.match(pattern) for pattern in kept)] == []
    folders = {path.parent for path in ROOT.glob("lib/**/*.py")}
    assert all((folder / "__init__.py").exists() for folder in folders)
