"""What helps a reader find the way, added to the built pages.

The footer tells version and date and has a link that reports a problem. The line of
a check leads to its row of the ledger, and back. A page that is not there says so.
"""

import os
import re
import subprocess
import tomllib
from datetime import UTC, datetime
from html import escape, unescape
from pathlib import Path
from urllib.parse import urlencode, urlsplit

ROOT = Path(__file__).resolve().parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]

# What `Held._repr_html_` of lib/ledger.py stores in a notebook.
HELD = re.compile(
    r'<div class="holds">'
    r'✓ (<a href="[^"#]*#(?:equation-)?((?:eq|erratum)-[\w-]+)">).*?</a> (.*?)</div>'
)
TAG = re.compile(r"<[^>]+>")

NOT_FOUND = """\
<h1>Nothing at this address</h1>
<p>The page may have moved, or the address may have a letter too many. Look for it
here, in the contents, or in the <a href="{index}">index</a>.</p>
<form class="not-found" role="search" aria-label="Whole book" action="{search}">
<input type="search" name="q" aria-label="Words to find">
<button type="submit">Search</button>
</form>
<p><a href="{home}">{title}: the first page</a></p>"""


def last_change() -> str:
    """The day of the last commit, or of SOURCE_DATE_EPOCH; empty if not known."""
    seconds = os.environ.get("SOURCE_DATE_EPOCH")
    if seconds is None:
        command = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
        try:
            seconds = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            return ""  # an archive of the sources has no history
    day = datetime.fromtimestamp(int(seconds), UTC)
    return f"{day.day} {day:%B %Y}"


def report(repository: str, page: str, cell: str = "") -> str:
    """The address of the form for errata, filled in as far as the page knows."""
    known = {"page": page, "cell": cell, "version": VERSION}
    return f"{repository}/issues/new?{urlencode({'template': 'erratum.yml', **known})}"


def known_as(env, label: str) -> str:
    """What readers call a labelled equation or erratum: its number or its title, as HTML."""
    if label.startswith("erratum-"):
        return f"Correction “{escape(env.get_domain('std').labels[label][2])}”"
    page, _ = env.get_domain("math").equations[label]
    numbers = env.toc_fignumbers[page]["displaymath"][f"equation-{label}"]
    return f"Equation ({'.'.join(map(str, numbers))})"


def typeset(text: str, name) -> str:
    """What a check printed as plain text, with indices, powers of ten and equations' numbers."""
    text = re.sub(r"\((eq-[\w-]+)\)", lambda m: name(m[1]).removeprefix("Equation "), text)
    text = re.sub(r"(?<![^\W_])([^\W\d_]\u0304?)_([A-Za-z0-9]{1,3})(?![A-Za-z0-9_])", INDEX, text)
    text = re.sub(r"\^\(([^()]+)\)|\^([\d.]+)", lambda m: f"<sup>{m[1] or m[2]}</sup>", text)
    text = re.sub(r"\b([\d.]+)e-0*(\d+)", lambda m: _power(*m.groups()), text)
    return re.sub(r"(\d) %", r"\1&nbsp;%", text)


INDEX = r"\1<sub>\2</sub>"


def _power(factor: str, exponent: str) -> str:
    front = "" if factor == "1" else f"{factor}\u2009·\u2009"
    return f'<span class="unbroken">{front}10<sup>−{exponent}</sup></span>'


def tie_to_ledger(body: str, ledger: str, reported, name) -> str:
    """Give the line of a check the name of what holds, and links to its row and to the form."""

    def tied(found: re.Match) -> str:
        link, label, rest = found.groups()
        known = name(label)
        return (
            f'<div class="holds" id="check-{label}">✓ {link}{known}</a> {typeset(rest, name)}'
            ' <span class="holds-links">'
            f'<a href="{ledger}#ledger-{label}"'
            f' aria-label="{known} in the ledger">ledger</a> '
            f'<a href="{escape(reported(label))}"'
            f' aria-label="report a problem with {known}">report</a>'
            "</span></div>"
        )

    return HELD.sub(tied, body)


def add_to_page(app, pagename, templatename, context, doctree):
    """Footer, report button and check lines of one page."""
    repository = app.config.html_theme_options["repository_url"]
    pathto = context["pathto"]
    title = unescape(TAG.sub("", context.get("title") or pagename))
    name = f"{title} ({pagename}.html)"
    here = report(repository, name)
    for button in _buttons(context.get("header_buttons", [])):
        if button.get("label") == "source-issues-button":
            button |= {
                "url": here,
                "text": "Report a problem",
                "tooltip": "Opens a form",
            }
    links = [
        f'<a href="{pathto(to)}">{text}</a>'
        for to, text in (
            ("book/cheat_sheet", "Cheat sheet"),
            ("book/glossary", "Glossary"),
            ("genindex", "Index"),
        )
    ]
    links.append(f'<a href="{escape(here)}">Report a problem with this page</a>')
    stamp = ", ".join(filter(None, (f"Version {VERSION}", context["book_date"])))
    context["theme_extra_footer"] = (
        f'<p class="finding">{" · ".join([stamp, *links])}</p>\n'
        f"<p>{app.config.html_theme_options['extra_footer']}</p>"
    )
    if 'class="holds"' in context.get("body", ""):
        context["body"] = tie_to_ledger(
            context["body"],
            pathto("book/ledger"),
            lambda label: report(repository, name, label),
            lambda label: known_as(app.env, label),
        )


def _buttons(buttons):
    for button in buttons:
        yield button
        yield from _buttons(button.get("buttons", []))


def configure(app, config):
    """The date once a build; links that hold wherever 404.html is shown."""
    config.html_context["book_date"] = last_change()
    prefix = urlsplit(config.html_baseurl).path or "/"
    config.notfound_urls_prefix = prefix
    config.notfound_context = {
        "title": "Nothing at this address",
        "body": NOT_FOUND.format(
            index=f"{prefix}genindex.html",
            search=f"{prefix}search.html",
            home=f"{prefix}index.html",
            title=escape(config.html_title or config.project),
        ),
    }


def setup(app):
    app.connect("config-inited", configure, priority=400)
    # The theme adds its buttons at 501.
    app.connect("html-page-context", add_to_page, priority=900)
    app.add_js_file("finding.js")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
