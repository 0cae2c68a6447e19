"""Takes pictures of HTML reports in a browser: wide and narrow, light and dark.

python benchmarks/report_pictures.py runs/demo/report.html ... --output=pictures

Playwright drives the browser: `pip install playwright`, then either `playwright install
chromium` or an installed Chromium, found by name or given by --browser. Fails if a page
is wider than the window, asks for anything outside of it, or has errors.
"""

import argparse
import pathlib
import shutil

from playwright.sync_api import sync_playwright

WIDTHS = (1280, 390)
SCHEMES = ("light", "dark")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="+", type=pathlib.Path, help="HTML files")
    parser.add_argument("--output", type=pathlib.Path, default="pictures")
    parser.add_argument("--browser", help="path of Chromium")
    parser.add_argument("--height", type=int, help="pixels; the whole page by default")
    parser.add_argument("--section", help="id of the section to begin at")
    arguments = parser.parse_args()
    found = arguments.browser or next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found)
        for page in arguments.pages:
            for width in WIDTHS:
                for scheme in SCHEMES:
                    take(browser, page, width, scheme, arguments)
        browser.close()


def take(browser, file, width, scheme, arguments):
    """Takes one picture and checks the page."""
    height = arguments.height or 900
    page = browser.new_page(
        viewport={"width": width, "height": height}, color_scheme=scheme
    )
    problems, requests = [], []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(file.resolve().as_uri())
    if arguments.section:
        page.locator(f"#{arguments.section}").evaluate("e => e.scrollIntoView()")
    picture = arguments.output / f"{file.stem}_{width}_{scheme}.png"
    arguments.output.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=picture, full_page=arguments.height is None)
    for state in ("folded", "open"):
        content = page.evaluate("document.documentElement.scrollWidth")
        if content > width:
            problems.append(f"{content} pixels wide when {state}")
        page.evaluate(
            "for (const d of document.querySelectorAll('details')) d.open = true"
        )
    problems += [
        url
        for url in requests
        if not url.startswith("data:") and url != file.resolve().as_uri()
    ]
    if problems:
        raise SystemExit(f"{file} at {width} pixels: {'; '.join(problems)}")
    print(picture)
    page.close()


if __name__ == "__main__":
    main()
