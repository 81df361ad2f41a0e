"""Photograph the built pages: `screenshots.py FOLDER [PAGE ...]`, wide and narrow, light and dark.

PAGE is a path as in _toc.yml, such as book/intro; without any, every page of the book.
"""

import argparse
from pathlib import Path

import chromium
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"

# What the page draws only near the reader is drawn on the way down.
SCROLL = """async () => {
  for (let y = 0; y < document.body.scrollHeight; y += 600) {
    scrollTo(0, y);
    await new Promise((done) => setTimeout(done, 60));
  }
  scrollTo({ top: 0, behavior: "instant" });
  await new Promise((done) => setTimeout(done, 400));
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("pages", nargs="*")
    parser.add_argument("--widths", nargs="*", type=int, default=[1440, 768, 360])
    parser.add_argument("--themes", nargs="*", default=["light", "dark"])
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    everything = [
        path.relative_to(SITE).with_suffix("").as_posix()
        for folder in ("book", "solutions")
        for path in sorted(SITE.glob(f"{folder}/*.html"))
    ]
    with sync_playwright() as playwright:
        browser = chromium.launch(playwright)
        for theme in arguments.themes:
            for width in arguments.widths:
                page = browser.new_page(
                    viewport={"width": width, "height": 900}, color_scheme=theme
                )
                for name in arguments.pages or everything:
                    page.goto(f"{(SITE / name).as_uri()}.html")
                    page.add_style_tag(content="* { content-visibility: visible !important }")
                    page.evaluate("document.fonts.ready.then(() => true)")
                    page.wait_for_timeout(400)  # the sidebar slides in
                    page.evaluate(SCROLL)
                    target = arguments.folder / f"{name.replace('/', '-')}-{width}-{theme}.png"
                    page.screenshot(path=target, full_page=True)
                    print(target)
                page.close()
        browser.close()


if __name__ == "__main__":
    main()
