"""The study browser in headless Chromium against the real server and archive."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.async_api import Browser, Page, expect

from kernel.web.assets import DIST
from tests.chromium import SIZES
from tests.dicomweb.browse_material import CT, FRAMES, SLICES, SR, US, every_study
from tests.dicomweb.conftest import Client
from tests.dicomweb.material import file, path
from tests.waiting import eventually

pytestmark = pytest.mark.browser

DESKTOP, PHONE = SIZES["desk"], SIZES["phone"]
PIXELS = """() => {
  const canvas = document.querySelector('[data-canvas]');
  const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  let sum = 0, weighted = 0;
  for (let i = 0; i < data.length; i += 4) { sum += data[i]; weighted += data[i] * (i % 9973); }
  return `${sum} ${weighted}`;
}"""


@pytest.fixture
async def site(client: Client) -> str:
    """The address of a server that holds some studies."""
    assert (DIST / "manifest.json").is_file(), "the front end is not built: run make setup"
    for ds in every_study():
        answer = await client.stow(file(ds))
        assert answer.status == 200, answer.body
    return client.root.removesuffix("/dicom-web")


@asynccontextmanager
async def opened(
    browser: Browser,
    address: str,
    size: tuple[int, int] = DESKTOP,
    lang: str = "zh-CN",
    said: Sequence[str] = (),
) -> AsyncIterator[Page]:
    """A page; in the end nothing may have gone elsewhere, told a name in an address or gone wrong.

    `said` are pieces of the console errors that are expected, in their order.
    """
    context = await browser.new_context(
        viewport={"width": size[0], "height": size[1]}, locale=lang, has_touch=size == PHONE
    )
    page = await context.new_page()
    wrong: list[str] = []
    asked: list[str] = []
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(address)
    yield page
    await context.close()
    assert len(wrong) == len(said), wrong
    assert all(piece in text for piece, text in zip(said, wrong, strict=True)), wrong
    host = urlsplit(address).netloc
    elsewhere = [url for url in asked if urlsplit(url).netloc not in ("", host)]
    assert elsewhere == []
    assert not [url for url in asked if any(name in unquote(url) for name in ("王", "wang", "WXM"))]


def study_address(site: str, number: int) -> str:
    return site + path(number)


async def changed(page: Page, before: str) -> str:
    """What is on the canvas once it is something else."""

    async def now() -> str:
        seen = str(await page.evaluate(PIXELS))
        return "" if seen == before else seen

    return await eventually(now)


async def shown(page: Page) -> str:
    """What is on the canvas once an image is there."""

    async def now() -> str:
        seen = str(await page.evaluate(PIXELS))
        return "" if seen.startswith("0 ") else seen

    return await eventually(now)


async def sideways(page: Page) -> int:
    return int(await page.evaluate("document.documentElement.scrollWidth - innerWidth"))


async def test_typing_finds_a_study_without_telling_it_in_an_address(
    browser: Browser, site: str
) -> None:
    async with opened(browser, f"{site}/studies") as page:
        rows = page.locator(".study-row")
        for typed in ("王", "小明", "wangxiaoming", "wxm", "P00041", "A00041"):
            await page.locator("#search-text").fill("")
            await expect(rows).to_have_count(4)
            await page.locator("#search-text").fill(typed)
            await expect(rows).to_have_count(1)
            await expect(rows.locator(".name")).to_contain_text("王小明")
        assert page.url == f"{site}/studies"


async def test_filters_narrow_and_an_empty_result_says_what_to_do(
    browser: Browser, site: str
) -> None:
    async with opened(browser, f"{site}/studies") as page:
        await page.get_by_text("超声", exact=True).click()
        await expect(page.locator(".study-row .name")).to_have_text(["石兰花 Shi Lanhua"])
        await page.get_by_text("今天", exact=True).click()
        await expect(page.locator(".empty-state h2")).to_have_text("没有符合条件的检查")
        await page.get_by_role("button", name="清除全部条件").click()
        await expect(page.locator(".study-row")).to_have_count(4)


async def test_going_back_from_a_study_finds_the_search_again(browser: Browser, site: str) -> None:
    async with opened(browser, f"{site}/studies") as page:
        await page.locator("#search-text").fill("dan xiao")
        await page.locator("#search-text").fill("单")
        await expect(page.locator(".study-row")).to_have_count(1)
        await page.keyboard.press("ArrowDown")
        await page.keyboard.press("Enter")
        await expect(page.locator(".study-who h1")).to_contain_text("单晓梅")
        await shown(page)
        await page.get_by_role("link", name="返回列表").click()
        await expect(page.locator("#search-text")).to_have_value("单")
        await expect(page.locator(".study-row")).to_have_count(1)


async def test_slices_scroll_by_wheel_keys_and_slider(browser: Browser, site: str) -> None:
    async with opened(browser, study_address(site, CT)) as page:
        count = page.locator("[data-count]")
        await expect(count).to_have_text(f"4 / {SLICES}")
        first = await shown(page)
        await page.locator("[data-pane]").hover()
        await page.mouse.wheel(0, 120)
        await expect(count).to_have_text(f"5 / {SLICES}")
        second = await changed(page, first)
        await page.keyboard.press("ArrowUp")
        await expect(count).to_have_text(f"4 / {SLICES}")
        assert await changed(page, second) == first
        await page.locator("[data-slider]").fill(str(SLICES))
        await expect(count).to_have_text(f"{SLICES} / {SLICES}")
        await changed(page, first)


async def test_presets_and_dragging_change_the_window(browser: Browser, site: str) -> None:
    async with opened(browser, study_address(site, CT)) as page:
        stated = await shown(page)
        state = page.locator('[data-corner="state"]')
        await expect(state).to_contain_text("W 400 L 40")
        await page.get_by_role("button", name="脑窗").click()
        await expect(state).to_contain_text("W 80 L 40")
        brain = await changed(page, stated)
        box = await page.locator("[data-pane]").bounding_box()
        assert box is not None
        await page.mouse.move(box["x"] + 300, box["y"] + 300)
        await page.mouse.down(button="right")
        await page.mouse.move(box["x"] + 500, box["y"] + 350, steps=5)
        await page.mouse.up(button="right")
        await expect(state).not_to_contain_text("W 80 L 40")
        dragged = await changed(page, brain)
        await page.keyboard.press("0")
        await expect(state).to_contain_text("W 400 L 40")
        await changed(page, dragged)


async def test_a_clip_plays_and_pauses(browser: Browser, site: str) -> None:
    async with opened(browser, study_address(site, US)) as page:
        count = page.locator("[data-count]")
        await expect(count).to_have_text(f"1 / {FRAMES}")
        await shown(page)
        play = page.get_by_role("button", name="播放 / 暂停")
        await play.click()
        for number in (2, 3):
            await expect(count).to_have_text(f"{number} / {FRAMES}", timeout=20_000)
        await play.click()
        await expect(play).to_have_attribute("aria-pressed", "false")


async def test_a_report_says_what_it_is_and_shows_its_elements(browser: Browser, site: str) -> None:
    async with opened(browser, study_address(site, SR), lang="en-US") as page:
        await expect(page.locator("[data-message] strong")).to_have_text("Structured report")
        await page.keyboard.press("t")
        elements = page.locator("[data-elements-body]")
        await expect(elements).to_contain_text("两肺纹理清晰，未见异常。")
        await page.locator("[data-elements-filter]").fill("0010,0010")
        await expect(elements.locator("tbody tr:visible")).to_have_count(1)
        await expect(elements.locator("tbody tr:visible")).to_contain_text("潘^志强")


@pytest.mark.parametrize("lang", ["zh-CN", "en-US"])
async def test_a_phone_shows_both_pages_without_sideways_scrolling(
    browser: Browser, site: str, lang: str
) -> None:
    async with opened(browser, f"{site}/studies", PHONE, lang) as page:
        assert await sideways(page) <= 0
        await page.locator(".study-row", has_text="王小明").tap()
        await expect(page.locator("[data-count]")).to_have_text(f"4 / {SLICES}")
        before = await shown(page)
        assert await sideways(page) <= 0
        box = await page.locator("[data-pane]").bounding_box()
        assert box is not None and box["width"] == PHONE[0] and box["height"] > 300
        await swipe(page, box["x"] + 150, box["y"] + 80, 160)
        await expect(page.locator("[data-count]")).not_to_have_text(f"4 / {SLICES}")
        await changed(page, before)


async def swipe(page: Page, x: float, y: float, dy: float) -> None:
    """One finger that moves down by `dy` pixels."""
    session = await page.context.new_cdp_session(page)
    for step in range(6):
        point = {"x": x, "y": y + dy * step / 5}
        kind = "touchMove" if step else "touchStart"
        await session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
    await session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


async def test_uploading_from_an_empty_list_names_what_was_refused(
    browser: Browser, client: Client, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good.dcm", tmp_path / "holiday.jpg"
    good.write_bytes(file(every_study()[0]))
    bad.write_bytes(b"no DICOM at all" * 100)
    site = client.root.removesuffix("/dicom-web")
    async with opened(browser, f"{site}/studies", said=["409 (Conflict)"]) as page:
        await expect(page.locator(".empty-state")).to_contain_text("11112")
        await page.locator("[data-upload-input]").set_input_files([good])
        await expect(page.locator("[data-upload-status]")).to_have_text("1 个文件已全部保存。")
        await expect(page.locator(".study-row .name")).to_contain_text("王小明")
        await page.locator("[data-upload-input]").set_input_files([bad])
        errors = page.locator("[data-upload-errors] li")
        await expect(errors).to_have_text(["holiday.jpg 不是 DICOM 文件。"])
