"""The figures of docs/performance.md: ``make bench``, or one of them with ``--only``.

Real commands, a real server and a real browser, on films drawn by code or on a folder of them.
Every figure is printed with what is wanted of it and written to ``bench.json``. Run it on an idle
machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import psutil
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from model_export import phantom
from tests import peers, sending
from tests.bench import load, many
from tests.bench.figures import MEGABYTE, Figure, at_least, environment, resident, under
from tests.running import ROOT, Visitor, free_port, needs_screen, screen, serving, wait_for

SOURCE = [sys.executable, "run_clinic.py"]
NO_VNNI_FILMS = 8
DROP_CACHES = Path("/proc/sys/vm/drop_caches")


@contextmanager
def fresh_home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="clinic-bench-") as folder:
        yield Path(folder) / "data"


def draw_films(folder: Path, count: int) -> None:
    zones = [None, *phantom.ZONES]
    for seed in range(count):
        film = phantom.chest_film(seed, (1024, 1024), opacity=zones[seed % len(zones)])
        Image.fromarray(film).save(folder / f"film-{seed:03}.jpg", quality=90)


def clinic(options: argparse.Namespace) -> list[str]:
    """How the program is called: the source, or what was built of it."""
    return [str(options.program.resolve())] if options.program else SOURCE


def analyze(films: Path, command: list[str], home: Path) -> list[dict[str, object]]:
    run = subprocess.run(
        [*command, "analyze", "--json", str(films)],
        cwd=ROOT,
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in run.stdout.splitlines()]


def measure_analyze(films: Path, options: argparse.Namespace) -> list[Figure]:
    """The whole command: Python, model and films."""
    with fresh_home() as home:
        start = time.perf_counter()
        lines = analyze(films, clinic(options), home)
        seconds = time.perf_counter() - start
    own = statistics.median(float(str(line["milliseconds"])) for line in lines)
    answered = sum(line["probability"] is not None for line in lines)
    return [
        at_least(f"analyze --json, {len(lines)} films", len(lines) / seconds, "films/s", 25),
        at_least("… of them answered, not refused", answered / len(lines) * 100, "%", 100),
        under("… milliseconds of one film, median", own, "ms", 300),
    ]


def measure_window(_films: Path, options: argparse.Namespace) -> list[Figure]:
    """The program as a double-click starts it, on a screen of its own; no browser opens."""
    if missing := needs_screen():
        print(f"window: left out, {missing}")
        return []
    with fresh_home() as home, screen() as (display, _):
        double_click = {**environment(home), "DISPLAY": display, "BROWSER": "/bin/true"}
        words = [*clinic(options), "--port", str(free_port())]
        program = subprocess.Popen(words, cwd=ROOT, env=double_click, stdout=subprocess.DEVNULL)
        try:
            visitor = Visitor(f"http://127.0.0.1:{words[-1]}")
            wait_for(lambda: visitor.get("/healthz"))
            visitor.get("/")
            time.sleep(5)
            idle = resident(program) / MEGABYTE
        finally:
            program.terminate()
            program.wait(timeout=60)
    return [under("resident memory, idle, with the window", idle, "MB", 80)]


def upload_and_see(page: Page, address: str, film: Path) -> float:
    """Seconds from handing over the film to the answer on the screen."""
    page.goto(address)
    start = time.perf_counter()
    page.set_input_files("input[type=file]", film)
    page.locator(".verdict__answer").first.wait_for(state="visible", timeout=60_000)
    return time.perf_counter() - start


def measure_upload(films: Path, options: argparse.Namespace) -> list[Figure]:
    """A real browser and a real server; the first film, which loads the model, counts apart."""
    chosen = sorted(films.iterdir())[: options.uploads + 1]
    with (
        fresh_home() as home,
        serving(clinic(options), environment(home)) as (visitor, _server),
        sync_playwright() as play,
    ):
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page()
        first, *rest = (upload_and_see(page, visitor.address, film) for film in chosen)
        browser.close()
    median = statistics.median(rest) * 1000
    return [
        under("upload to visible answer, first film", first * 1000, "ms", 3000),
        under(f"upload to visible answer, median of {len(rest)}", median, "ms", 300),
    ]


def measure_start(_films: Path, options: argparse.Namespace) -> list[Figure]:
    """An empty data directory each time, so its migrations are part of it."""
    seconds = []
    for _ in range(options.starts):
        if options.drop_caches:
            os.sync()
            DROP_CACHES.write_text("3", encoding="ascii")
        with fresh_home() as home:
            start = time.perf_counter()
            with serving(clinic(options), environment(home), pause=0.005):
                seconds.append(time.perf_counter() - start)
    return [under("serve to first 200, median", statistics.median(seconds), "s", 2)]


def measure_memory(films: Path, options: argparse.Namespace) -> list[Figure]:
    """The server alone: after it has come to rest, and after it has answered films."""
    with fresh_home() as home, serving(clinic(options), environment(home)) as (visitor, server):
        visitor.get("/")
        time.sleep(5)
        idle = resident(server) / MEGABYTE
        for film in sorted(films.iterdir())[: options.uploads]:
            visitor.wait_for_answer(visitor.upload(film))
        used = resident(server) / MEGABYTE
    return [
        under("resident memory, idle", idle, "MB", 100),
        under("resident memory, after inference", used, "MB", 200),
    ]


def emulated() -> list[str]:
    """This program on a processor with AVX2 and without VNNI, as QEMU shows it."""
    packages = [path for path in sys.path if path.endswith("site-packages")]
    program = (
        f"import sys, runpy; sys.path[:0] = [{str(ROOT)!r}, *{packages!r}]; "
        "sys.argv[0] = 'run_clinic.py'; runpy.run_path('run_clinic.py', run_name='__main__')"
    )
    real_python = str(Path(sys.executable).resolve())
    return ["qemu-x86_64", "-cpu", "Haswell", real_python, "-c", program]


def measure_no_vnni(films: Path, _options: argparse.Namespace) -> list[Figure]:
    """The same films on this processor and on an emulated one; only the answers are compared."""
    if not shutil.which("qemu-x86_64"):
        print("no-vnni: left out, qemu-x86_64 is not installed (Debian: qemu-user)")
        return []
    with fresh_home() as home, tempfile.TemporaryDirectory() as folder:
        for film in sorted(films.iterdir())[:NO_VNNI_FILMS]:
            shutil.copy(film, folder)
        here = analyze(Path(folder), SOURCE, home)
        there = analyze(Path(folder), emulated(), home)
    pairs = list(zip(here, there, strict=True))
    same = sum(one["answer"] == other["answer"] for one, other in pairs)
    apart = max(
        abs(float(str(one["probability"])) - float(str(other["probability"])))
        for one, other in pairs
        if one["probability"] is not None and other["probability"] is not None
    )
    return [
        at_least("same answers without VNNI", same / len(pairs) * 100, "%", 100),
        under("… largest difference of a probability", apart, "", 0.001),
    ]


def percentile_95(seconds: list[float]) -> float:
    """So long 95 of 100 take at most."""
    return sorted(seconds)[int(len(seconds) * 0.95) - 1]


def worklist_addresses(studies: int, visitor: Visitor) -> dict[str, str]:
    """The pages of a clinic with so many studies that are asked for every day, and the worst."""
    first = re.search(r'data-number="([^"]+)"', visitor.get("/"))
    assert first, "the worklist shows no study"
    tabs = {f"tab {tab}": f"/?tab={tab}" for tab in ("waiting", "unusable", "unread", "read")}
    return tabs | {
        "first page": "/",
        "last page": f"/?page={studies // 25}",
        "last page of a tab": f"/?tab=read&page={studies * 3 // 100}",
        "search, common word": "/?q=otieno",
        "search, rare word": f"/?q={many.RARE}",
        "search, absent word": f"/?q={many.ABSENT}",
        "search, part of a number": "/?q=2024-00",
        "search, two words under a tab": f"/?q=amina+{many.RARE}&tab=unread",
        "filter, answer": "/?answer=cannot_say",
        "filter, reader of much": "/?reader=1",
        "filter, reader of little": "/?reader=4",
        "filter, a month": "/?since=2025-03-01&until=2025-03-31",
        "filter, patient": "/?patient=5",
        "what an open page asks for": "/rows?counts=",
        "a study": f"/studies/{first[1]}/",
    }


def measure_worklist(_films: Path, options: argparse.Namespace) -> list[Figure]:
    """The real server on a database of years. Each request opens a connection of its own."""
    figures = []
    with fresh_home() as home:
        words = ["-m", "tests.bench.many", "--studies", str(options.studies)]
        surroundings = environment(home)
        if options.database:
            surroundings |= {"CLINIC_DATABASE_URL": options.database}
        subprocess.run([sys.executable, *words], cwd=ROOT, env=surroundings, check=True)
        with serving(clinic(options), surroundings) as (visitor, server):
            for name, address in worklist_addresses(options.studies, visitor).items():
                figures += page_times(name, address, visitor, server, options.requests)
            figures += first_paint(visitor.address)
    return figures


def page_times(
    name: str, address: str, visitor: Visitor, server: subprocess.Popen[bytes], requests: int
) -> list[Figure]:
    """How long the page takes, and how much of a processor: the second holds on a busy machine."""
    seconds = []
    before = worked(server)
    for _ in range(requests):
        start = time.perf_counter()
        visitor.get(address)
        seconds.append(time.perf_counter() - start)
    each = (worked(server) - before) / requests
    return [
        under(f"{name}, p95", percentile_95(seconds) * 1000, "ms", 100),
        under("… time of one processor, mean", each * 1000, "ms", 100),
    ]


def worked(server: subprocess.Popen[bytes]) -> float:
    """Seconds of processor time that the server has taken so far."""
    times = psutil.Process(server.pid).cpu_times()
    return float(times.user + times.system)


def first_paint(address: str) -> list[Figure]:
    """What Chromium shows of the worklist, and when, on a processor four times slower than this."""
    paints, weights = [], []
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for _ in range(5):
            page = browser.new_context().new_page()
            session = page.context.new_cdp_session(page)
            session.send("Emulation.setCPUThrottlingRate", {"rate": 4})
            page.route("**/thumbnail.png*", lambda route: route.abort())
            page.goto(address, wait_until="networkidle")
            paints.append(float(page.evaluate(FIRST_PAINT)))
            weights.append(float(page.evaluate(WEIGHT)))
            page.context.close()
        browser.close()
    return [
        under("first paint, 4 times slower, worst of 5", max(paints), "ms", 1000),
        under("page without its films", max(weights) / 1000, "kB", 300),
    ]


FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
WEIGHT = """[...performance.getEntriesByType('navigation'),
  ...performance.getEntriesByType('resource')].reduce((sum, one) => sum + one.transferSize, 0)"""


def measure_update(films: Path, options: argparse.Namespace) -> list[Figure]:
    """An update of 12 MB: taken in with its self-test, then tried on the last films."""
    with fresh_home() as home, tempfile.TemporaryDirectory() as folder:
        for number in range(options.tried):
            given = sorted(films.iterdir())
            # Drawn films are few; a byte behind the picture makes another film of the same
            film = given[number % len(given)]
            copy = Path(folder) / f"{number:04}{film.suffix}"
            copy.write_bytes(film.read_bytes() + b"\0" * (number // len(given)))
        words = ["-m", "tests.bench.update", folder]
        run = subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            env=environment(home),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    found = json.loads(run.stdout.splitlines()[-1])
    steps = {
        f"update of {found['size'] / MEGABYTE:.1f} MB, taken in and self-tested": ["taken"],
        f"… and tried on the last {options.tried} films": ["taken", "tried"],
        "… where both models have to answer": ["taken", "both"],
    }
    figures = []
    for name, parts in steps.items():
        seconds, worked = (sum(found[part][i] for part in parts) for i in range(2))
        figures += [
            under(name, seconds, "s", 30),
            under("… time of one processor", worked, "s", 30),
        ]
    return figures


def send_by_dicom(port: int, films: int, associations: int = 4) -> float:
    """Seconds until the last of so many films is acknowledged; the unit is a process of its own."""
    words = ["-m", "tests.bench.dicom", str(port), "--films", str(films)]
    words += ["--associations", str(associations)]
    run = subprocess.run(
        [sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    return float(run.stdout)


def measure_dicom(_films: Path, options: argparse.Namespace) -> list[Figure]:
    """Films of 2 MB over four associations, into the queue; and the memory of what receives them.

    They are analysed meanwhile, as in the clinic.
    """
    with fresh_home() as home, serving(clinic(options), environment(home)) as (visitor, server):
        port = free_port()
        sending.open_node(visitor, port)
        wait_for(lambda: peers.listens(port))
        send_by_dicom(port, films=4)  # the model is loaded now
        before = resident(server) / MEGABYTE
        seconds = send_by_dicom(port, options.dicom_films)
        after = resident(server) / MEGABYTE
        stored = len(sending.stored(home))
    return [
        at_least("received and queued by DICOM", options.dicom_films / seconds, "films/s", 20),
        at_least("… of them stored, once each", stored / options.dicom_films * 100, "%", 100),
        under("… memory gained over them", after - before, "MB", 100),
    ]


def measure_load(_films: Path, _options: argparse.Namespace) -> list[Figure]:
    """A busy day on one laptop; docs/scaling.md has those of a server."""
    return load.measure(load.USERS, load.FILMS, "", 0)


MEASURES: dict[str, Callable[[Path, argparse.Namespace], list[Figure]]] = {
    "analyze": measure_analyze,
    "start": measure_start,
    "memory": measure_memory,
    "window": measure_window,
    "upload": measure_upload,
    "no-vnni": measure_no_vnni,
    "worklist": measure_worklist,
    "dicom": measure_dicom,
    "update": measure_update,
    "load": measure_load,
}


def machine() -> dict[str, object]:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    load = psutil.getloadavg()[0]
    memory = psutil.virtual_memory().total
    return {
        "processor": model,
        "cores": psutil.cpu_count(),
        "memory_gb": round(memory / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_before": load,
    }


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=sorted(MEASURES))
    parser.add_argument(
        "--program", type=Path, help="what `make bundle` built, such as dist/Clinic/Clinic"
    )
    parser.add_argument("--films", type=Path, help="a folder of films instead of drawn ones")
    parser.add_argument("--count", type=int, default=100, help="how many films to draw")
    parser.add_argument("--uploads", type=int, default=20, help="films sent through the pages")
    parser.add_argument("--starts", type=int, default=5, help="how often to start the server")
    parser.add_argument("--studies", type=int, default=100_000, help="in the worklist's database")
    parser.add_argument("--database", default="", help="an empty PostgreSQL for the worklist")
    parser.add_argument("--requests", type=int, default=40, help="for each page of the worklist")
    parser.add_argument("--tried", type=int, default=200, help="films that an update is tried on")
    parser.add_argument("--dicom-films", type=int, default=300, help="sent by DICOM")
    parser.add_argument("--drop-caches", action="store_true", help="before each start (root)")
    parser.add_argument("--json", type=Path, default=ROOT / "bench.json", help="where to write")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    about = machine()
    print(json.dumps(about))
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="clinic-films-") as folder:
        films = options.films or Path(folder)
        if options.films is None:
            draw_films(films, options.count)
        for name in options.only or MEASURES:
            found = MEASURES[name](films, options)
            print(*found, sep="\n", flush=True)
            figures += found
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": about,
        "figures": [asdict(figure) for figure in figures],
    }
    options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
