"""The report page in a real browser: hover, click, keys, zoom, legend, table, video; no error and no request."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asl_report import RATE, TIERS, analysis_of, curves_of, data_of, page
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from fyc.asl.elan.document import Annotation, Tier
from fyc.asl.output.report import Origin, write_report
from fyc.asl.output.thumbnails import Thumbnails
from fyc.asl.video.reader import Frame
from fyc.asl.video.writer import write_video

FRAMES = 200
DASH = "\N{EN DASH}"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("NO BROWSER: the report page is not tested; apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for word in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--force-device-scale-factor=1",
        f"--user-data-dir={tmp_path_factory.mktemp('browser')}",
    ):  # fmt: skip
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
            patch.delenv(name)
        with webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)) as started:
            yield started


class Page:
    """A page that is open in a window of some width."""

    def __init__(self, driver: webdriver.Chrome, path: Path, width: int) -> None:
        self.driver, self.path = driver, path
        size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.complaints(), self.requests()  # forget those of the page before
        driver.get(path.as_uri())
        self.plot = driver.find_element("id", "plot")
        self.data = data_of(path)
        self.curves = curves_of(self.data)
        self.settle()

    def run(self, script: str, *values: Any) -> Any:
        return self.driver.execute_script(script, *values)

    def settle(self) -> None:
        """Wait until what was asked for is painted."""
        self.driver.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => setTimeout(done, 30));"
        )

    def text(self, name: str) -> str:
        return str(self.run("return document.getElementById(arguments[0]).textContent", name))

    @property
    def frame(self) -> int:
        return int(self.plot.get_attribute("aria-valuenow") or -1)

    @property
    def paper(self) -> str:
        return str(self.run("return getComputedStyle(document.body).backgroundColor"))

    @property
    def range(self) -> list[float]:
        times = [part.split(":") for part in self.text("range").split(f" {DASH} ")]
        return [60 * float(minutes) + float(seconds) for minutes, seconds in times]

    def values(self) -> dict[str, str]:
        script = """return Object.fromEntries([...document.querySelectorAll("#gutter label")].map(
            (label) => [label.querySelector("input").dataset.curve, label.querySelector("output").textContent]))"""
        return dict(self.run(script))

    def point(self, part: float, *then: str) -> float:
        """Move the mouse to a part of the width; returns the time that is there."""
        self.run("arguments[0].scrollIntoView()", self.plot)
        width, height = self.plot.size["width"], self.plot.size["height"]
        across = round((part - 0.5) * width)
        chain = ActionChains(self.driver).move_to_element_with_offset(self.plot, across, round(200 - height / 2))
        for action in then:
            getattr(chain, action)()
        chain.perform()
        self.settle()
        begin, end = self.range
        middle = self.run("const b = arguments[0].getBoundingClientRect(); return b.left + b.width / 2", self.plot)
        left = self.run("return arguments[0].getBoundingClientRect().left", self.plot)
        return begin + (int(middle) + across - left) / width * (end - begin)

    def is_at(self, frame: int, time: float) -> bool:
        """Whether a frame is shown at a time, as far as whole pixels tell."""
        begin, end = self.range
        pixel = (end - begin) / self.plot.size["width"]
        return bool(frame / RATE - pixel <= time <= (frame + 1) / RATE + pixel)

    def press(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()
        self.settle()

    def ink(self, colour: str) -> int:
        """Pixels of the plot that have nearly a colour of the style sheet."""
        script = """const plot = document.getElementById("plot");
            const tile = document.createElement("canvas").getContext("2d");
            tile.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(arguments[0]);
            tile.fillRect(0, 0, 1, 1);
            const [r, g, b] = tile.getImageData(0, 0, 1, 1).data;
            const all = plot.getContext("2d").getImageData(0, 0, plot.width, plot.height).data;
            let count = 0;
            for (let at = 0; at < all.length; at += 4)
                count += Math.abs(all[at] - r) + Math.abs(all[at + 1] - g) + Math.abs(all[at + 2] - b) < 30;
            return count;"""
        return int(self.run(script, colour))

    def complaints(self) -> list[str]:
        """Errors of the console, but for videos that are not there."""
        entries = [entry["message"] for entry in self.driver.get_log("browser")]
        return [entry for entry in entries if "ERR_FILE_NOT_FOUND" not in entry or ".mp4" not in entry]

    def requests(self) -> set[str]:
        """Addresses that were asked for, but for data within the page."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
        return {url for url in sent if not url.startswith("data:")}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "signing.report.html"
    page(path, FRAMES)
    return path


@pytest.fixture(params=[400, 1600])
def opened(request: pytest.FixtureRequest, chromium: webdriver.Chrome, written: Path) -> Page:
    return Page(chromium, written, request.param)


def expected(opened: Page, frame: int) -> dict[str, str]:
    digits = {name: values[frame] for name, values in opened.curves.items()}
    return {name: DASH if np.isnan(value) else f"{value:.2f}" for name, value in digits.items()}


def agrees(shown: dict[str, str], wanted: dict[str, str]) -> bool:
    pairs = [(shown[name], wanted[name]) for name in wanted]
    return all(a == b or abs(float(a) - float(b)) < 0.0101 for a, b in pairs)


def test_it_opens_without_an_error_and_asks_for_nothing(opened: Page) -> None:
    assert opened.frame == 0
    assert opened.range == [0.0, FRAMES / RATE]
    assert opened.complaints() == []
    video = opened.path.with_name("signing.mp4").as_uri()
    assert opened.requests() <= {opened.path.as_uri(), video}
    assert opened.run("return document.documentElement.scrollWidth <= window.innerWidth")
    assert "Small picture of frame 0" in opened.text("shown")
    assert opened.run("return document.getElementById('picture').naturalHeight") == 120
    assert min(opened.ink(f"--{name}") for name in ("left", "right", "third", "mouth", "m0")) > 100


@pytest.mark.parametrize("part", [0.1015, 0.3215, 0.5015, 0.7715])
def test_hovering_shows_the_frame_and_its_values(opened: Page, part: float) -> None:
    time = opened.point(part)
    shown = int(opened.text("tip-text").split()[1])
    assert opened.is_at(shown, time)
    assert agrees(opened.values(), expected(opened, shown))
    assert opened.frame == 0  # the cursor stays
    active = {note.value for tier in TIERS for note in tier.annotations if note.start_ms <= 40 * shown < note.end_ms}
    assert set(opened.text("tip-text").split("\n")[2:]) == active


def test_a_click_moves_the_cursor(opened: Page) -> None:
    time = opened.point(0.6015, "click")
    assert opened.is_at(opened.frame, time)
    assert f"frame {opened.frame} " in opened.text("where")
    assert f"frame {opened.frame // 5 * 5};" in opened.text("shown")


def test_keys_step_and_zoom(opened: Page) -> None:
    opened.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert opened.frame == 2
    opened.press(Keys.END)
    assert opened.frame == FRAMES - 1
    opened.press(Keys.HOME)
    ActionChains(opened.driver).key_down(Keys.SHIFT).send_keys(Keys.ARROW_RIGHT).key_up(Keys.SHIFT).perform()
    assert opened.frame == RATE
    opened.press("+", "+")
    assert np.isclose(np.diff(opened.range), FRAMES / RATE / 4, atol=0.002)
    assert opened.range[0] <= 1 < opened.range[1]
    opened.press("-", "0")
    assert opened.range == [0.0, FRAMES / RATE]


def test_the_view_follows_the_cursor(opened: Page) -> None:
    opened.press("+", "+", "+", Keys.END)
    assert opened.range[0] <= (FRAMES - 1) / RATE < opened.range[1]


def test_buttons_and_wheel_zoom_around_a_place(opened: Page) -> None:
    opened.driver.find_element("id", "in").click()
    assert np.isclose(np.diff(opened.range), FRAMES / RATE / 2, atol=0.002)
    opened.driver.find_element("id", "all").click()
    before = opened.point(0.7)
    wheel = """arguments[0].dispatchEvent(new WheelEvent("wheel", {deltaY: -100, cancelable: true, clientX:
        arguments[0].getBoundingClientRect().left + 0.7 * arguments[0].clientWidth}))"""
    for _ in range(4):
        opened.run(wheel, opened.plot)
    begin, end = opened.range
    assert np.isclose(end - begin, FRAMES / RATE * 0.8**4, atol=0.005)
    assert np.isclose(begin + 0.7 * (end - begin), before, atol=0.05)


def test_dragging_moves_the_view(opened: Page) -> None:
    opened.press("+", "+")
    begin = opened.range[0]
    opened.run("arguments[0].scrollIntoView()", opened.plot)
    width = opened.plot.size["width"]
    chain = ActionChains(opened.driver).move_to_element(opened.plot).click_and_hold()
    chain.move_by_offset(-round(width / 4), 0).release().perform()
    opened.settle()
    assert np.isclose(opened.range[0] - begin, FRAMES / RATE / 16, atol=0.02)
    assert opened.frame == 0


def test_the_legend_hides_a_curve(opened: Page) -> None:
    before = opened.ink("--third")
    box = opened.driver.find_element("css selector", "input[data-curve=roll_deg]")
    box.click()
    opened.settle()
    assert opened.ink("--third") < before / 10
    box.send_keys(Keys.SPACE)
    opened.settle()
    assert opened.ink("--third") == before


def test_the_table_goes_to_an_event(opened: Page) -> None:
    buttons = opened.driver.find_elements("css selector", "#events button")
    opened.run("arguments[0].click()", buttons[-1])
    opened.settle()
    assert opened.frame == 80  # 3.2 s
    assert opened.text("active") == "brow-lower"
    assert agrees(opened.values(), expected(opened, 80))


def test_gaps_are_gaps(opened: Page) -> None:
    opened.run("document.querySelector('button[data-ms=\"2400\"]').click()")
    opened.settle()
    assert opened.frame == 60
    assert set(opened.values().values()) == {DASH, "0.00"}
    assert opened.text("active") == "lost"


def test_pictures_play_when_the_video_is_not_there(opened: Page) -> None:
    opened.press(Keys.SPACE)
    assert opened.text("play") == "pause"
    WebDriverWait(opened.driver, 10).until(lambda _: opened.frame > 10)
    opened.press(Keys.SPACE)
    assert opened.text("play") == "play"
    assert f"frame {opened.frame // 5 * 5};" in opened.text("shown")


def test_the_video_is_shown_in_step(chromium: webdriver.Chrome, tmp_path: Path) -> None:
    with write_video(tmp_path / "it's 100%.mp4", (160, 120), RATE) as writer:
        for frame in range(100):
            writer.add(np.full((120, 160, 3), 2 * frame + 20, np.uint8))
    page(tmp_path / "a.report.html", 100, tmp_path / "it's 100%.mp4")
    opened = Page(chromium, tmp_path / "a.report.html", 1000)
    WebDriverWait(chromium, 10).until(lambda _: "This is the video" in opened.text("shown"))
    grey = """const video = document.getElementById("video"), pen = document.createElement("canvas").getContext("2d");
        if (video.seeking || video.readyState < 2) return null;
        pen.drawImage(video, 0, 0, 8, 8);
        try { return pen.getImageData(4, 4, 1, 1).data[0]; } catch { return "tainted"; }"""
    middle = "const video = document.getElementById('video'); return video.seeking ? null : video.currentTime"
    for frame in (0, 37, 99, 12):
        opened.run("document.querySelector('#events button').dataset.ms = arguments[0]", frame * 40)
        opened.run("document.querySelector('#events button').click()")
        at = WebDriverWait(chromium, 10).until(lambda _: opened.run(middle))
        assert int(at * RATE) == frame == opened.frame
        shade = opened.run(grey)
        assert shade in (None, "tainted") or abs(shade - 2 * frame - 20) < 6
    assert opened.complaints() == []


def test_a_nasty_name_is_only_text(chromium: webdriver.Chrome, tmp_path: Path) -> None:
    nasty = "<img src=x onerror=document.title='hacked'>.mp4"
    tiers = (Tier(nasty, (Annotation(0, 4000, "</script><script>document.title='hacked'</script>"),)),)
    page(tmp_path / "a.html", 100, tmp_path / nasty, tiers)
    opened = Page(chromium, tmp_path / "a.html", 800)
    assert chromium.title == nasty
    assert opened.text("active") == tiers[0].annotations[0].value
    assert opened.complaints() == []


def test_a_hundred_thousand_frames_are_drawn_at_once(chromium: webdriver.Chrome, tmp_path: Path) -> None:
    page(tmp_path / "a.html", 100_000)
    opened = Page(chromium, tmp_path / "a.html", 1600)
    WebDriverWait(chromium, 20).until(lambda _: opened.frame == 0)
    script = """const done = arguments[0], begin = performance.now();
        document.getElementById("on").click();
        requestAnimationFrame(() => done(performance.now() - begin));"""
    times = [opened.driver.execute_async_script(script) for _ in range(5)]
    assert np.median(times) < 200
    assert opened.frame == 5
    assert opened.complaints() == []


def test_dark_and_print(opened: Page) -> None:
    assert opened.paper == "rgb(255, 255, 255)"
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    opened.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    opened.settle()
    try:
        assert opened.paper == "rgb(21, 24, 28)"
        assert opened.ink("--left") > 100
        opened.run("window.dispatchEvent(new Event('beforeprint'))")
        assert opened.paper == "rgb(255, 255, 255)"
        opened.run("window.dispatchEvent(new Event('afterprint'))")
        assert opened.paper == "rgb(21, 24, 28)"
    finally:
        opened.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_a_video_whose_first_pictures_are_lost(chromium: webdriver.Chrome, tmp_path: Path) -> None:
    pictures = Thumbnails()
    for index in range(100):
        pictures.add(Frame(index, index / RATE, None if index < 30 else np.full((60, 80, 3), 99, np.uint8)))
    analysis = analysis_of(tmp_path / "a.mp4", 100, slice(0, 30))
    write_report(analysis, TIERS, pictures, Origin("", None, None), tmp_path / "a.html")
    opened = Page(chromium, tmp_path / "a.html", 800)
    assert opened.run("return document.getElementById('picture').hidden")
    opened.press(Keys.END)
    assert "Small picture of frame 95" in opened.text("shown")
    assert opened.complaints() == []
