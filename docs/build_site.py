"""Build the site: write its pages to build/site/source, run Sphinx, and show the result if asked to.

python docs/build_site.py [serve | links]
"""

from __future__ import annotations

import argparse
import functools
import http.server
import subprocess
import sys
from pathlib import Path

from site_pages import ROOT, write_pages

SITE = ROOT / "build" / "site"


def sphinx(builder: str, output: Path) -> None:
    """Run Sphinx; a warning is an error."""
    command = [sys.executable, "-m", "sphinx", "-b", builder, "-W", "--keep-going", "-q", "-c", str(ROOT / "docs")]
    done = subprocess.run([*command, "-d", str(SITE / "doctrees"), str(SITE / "source"), str(output)], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def serve(folder: Path, port: int) -> None:
    """Show the site on this machine until Ctrl-C."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        print(f"http://127.0.0.1:{server.server_port}/")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


def main() -> None:
    """Build, then serve or check the links that lead out of the site."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("then", nargs="?", choices=("serve", "links"), help="show the site, or try external links")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    write_pages(SITE / "source")
    sphinx("html", SITE / "html")
    print(f"The site is in {SITE / 'html'}")
    if arguments.then == "links":
        sphinx("linkcheck", SITE / "links")
    elif arguments.then == "serve":
        serve(SITE / "html", arguments.port)


if __name__ == "__main__":
    main()
