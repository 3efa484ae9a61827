// How the console looks and feels: on a phone, in the dark, by keyboard alone, for who does not see it, and with very long answers.
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { Hub, browser, screenshot, sleep, until } from "./support.mjs";
import { Tabs, accessible, answer, ask, begun, link, logged, prompt, quiet, said, sameAsLog, sessionOf } from "./console-support.mjs";

const PHONE = { width: 390, height: 780 };
let hub, chrome, tabs, session;

before(async () => {
  hub = await Hub.start({ AGENT_HUB_LIMITS: "off" });
  chrome = await browser();
  tabs = new Tabs(chrome, hub.url);
  const page = await tabs.open();
  await ask(page, "/reason 20 Which birds swim? /tokens 80 /pace 2");
  await quiet(page);
  await ask(page, "/steps 2 /pace 2");
  await quiet(page);
  await ask(page, "/fail 400 after 20 /pace 2");
  await quiet(page);
  await ask(page, "/ask Which of them do you like best?");
  await page.locator(".input-card").waitFor();
  session = sessionOf(page);
  await page.close();
});
after(async () => {
  await chrome?.close();
  await hub?.stop();
});
afterEach(() => tabs.settle());

const places = [
  ["home", "#/", (page) => page.getByRole("button", { name: /Stream an answer/ }).waitFor()],
  ["session", () => `#/s/${session}`, (page) => page.locator(".input-card").waitFor()],
  ["replay", () => `#/s/${session}/replay`, (page) => page.getByRole("button", { name: "Read newer" }).waitFor()],
  ["sessions", "#/sessions", (page) => page.locator(".session-table li").first().waitFor()],
  ["numbers", "#/numbers", (page) => page.locator(".plot canvas").first().waitFor()],
];

for (const colours of ["light", "dark"]) {
  for (const [device, size] of [["desk", { width: 1360, height: 820 }], ["phone", PHONE]]) {
    test(`every place is accessible and fits: ${colours}, ${device}`, async () => {
      const page = await tabs.open();
      await page.setViewportSize(size);
      await page.emulateMedia({ colorScheme: colours, reducedMotion: "reduce" });
      for (const [name, hash, ready] of places) {
        await page.goto("about:blank");
        await page.goto(`${hub.url}/${typeof hash === "string" ? hash : hash()}`);
        await link(page, "live");
        await ready(page);
        await screenshot(page, `console-40-${name}-${colours}-${device}`);
        await accessible(page, `${name}, ${colours}, ${device}`);
        assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${name}: nothing is wider than the screen`);
        if (name !== "session") continue;
        for (const panel of ["Events", "About", "Timeline"]) {
          const button = page.getByRole("button", { name: panel });
          if ((await button.getAttribute("aria-pressed")) !== "true") await button.click();
          await page.getByRole("complementary", { name: panel }).waitFor();
          await screenshot(page, `console-41-${panel.toLowerCase()}-${colours}-${device}`);
          await accessible(page, `${panel}, ${colours}, ${device}`);
        }
      }
      await page.getByRole("button", { name: "Keys and words" }).click();
      await page.getByRole("dialog").waitFor();
      await screenshot(page, `console-42-help-${colours}-${device}`);
      await accessible(page, `help, ${colours}, ${device}`);
      await page.close();
    });
  }
}

test("on a phone: ask, watch, stop, look at the timeline, go to another session", async () => {
  const page = await tabs.open();
  await page.setViewportSize(PHONE);
  await ask(page, "How does this look on a phone? /tokens 800 /pace 10");
  await begun(page);
  await sleep(300);
  await screenshot(page, "console-50-phone-streaming");
  await page.getByRole("button", { name: "Timeline" }).click();
  await page.locator(".task").first().waitFor();
  await page.getByRole("button", { name: "Timeline" }).click();
  await page.getByRole("button", { name: "Stop" }).click();
  await quiet(page);
  await sameAsLog(hub, page);
  const menu = page.getByRole("button", { name: "Sessions", exact: true });
  await menu.click();
  await until("the list has the focus", () => page.evaluate(() => document.activeElement?.closest("#sidebar") !== null));
  await screenshot(page, "console-51-phone-sessions");
  await page.keyboard.press("Escape");
  assert.equal(await menu.getAttribute("aria-expanded"), "false");
  assert.ok(await menu.evaluate((it) => it === document.activeElement), "the focus goes back");
  await menu.click();
  await page.locator("#sessions a", { hasText: "Which birds swim?" }).click();
  await until("the other session", () => sessionOf(page) === session);
  await page.locator(".input-card").waitFor();
  const small = await page.evaluate(() =>
    [...document.querySelectorAll("button, a, select, input, textarea")]
      .filter((one) => one.checkVisibility({ visibilityProperty: true }) && !one.closest(".skip, p, .thread, .hidden"))
      .map((one) => [one.textContent || one.getAttribute("aria-label"), one.getBoundingClientRect()])
      .filter(([, box]) => box.width > 0 && (box.height < 24 || box.width < 24))
      .map(([name]) => name),
  );
  assert.deepEqual(small, [], "everything is large enough for a finger (24 px)");
  await page.close();
});

test("by keyboard alone: begin, ask, stop, timeline, help, replay, another session", async () => {
  const page = await tabs.open();
  await until("the box has the focus", () => prompt(page).evaluate((it) => it === document.activeElement));
  await page.keyboard.type("/tokens 2000 /pace 10");
  await page.keyboard.press("Enter");
  await begun(page);
  await until("the box has the focus again", () => prompt(page).evaluate((it) => it === document.activeElement));
  await page.keyboard.type("a line");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.type("and another?");
  assert.equal(await prompt(page).inputValue(), "a line\nand another?", "letters are letters inside of a field");
  await page.keyboard.press("Escape");
  await page.locator(".note.end", { hasText: "Stopped" }).waitFor();
  await quiet(page);
  await page.keyboard.press("Control+a");
  await page.keyboard.press("Delete");

  // Out of the box; letters act.
  await page.keyboard.press("Shift+Tab");
  await page.keyboard.press("e");
  await page.getByRole("complementary", { name: "Events" }).waitFor();
  await page.keyboard.press("i");
  await page.getByRole("complementary", { name: "About" }).waitFor();
  await page.keyboard.press("i");
  assert.equal(await page.getByRole("complementary").filter({ hasText: "Cursor" }).count(), 0);
  await page.keyboard.press("?");
  await page.getByRole("dialog", { name: "Keys and words" }).waitFor();
  const before = sessionOf(page);
  await page.keyboard.press("n");
  assert.equal(sessionOf(page), before, "a dialog has the keys for itself");
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  await page.keyboard.press("/");
  await page.keyboard.type("/echo typed after a slash");
  await page.keyboard.press("Enter");
  await until("its answer", async () => (await answer(page).textContent()) === "typed after a slash");
  await quiet(page);

  await page.getByRole("link", { name: "Replay", exact: true }).focus();
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Read newer" }).waitFor();
  await page.keyboard.press("Home");
  assert.deepEqual(await said(page), []);
  await page.keyboard.press("End");
  await page.keyboard.press("g");
  await page.locator(".session-table").waitFor();
  await page.keyboard.press("m");
  await page.locator(".plot").first().waitFor();
  await page.keyboard.press("n");
  await page.getByRole("heading", { name: "What should the agent do?" }).waitFor();
  await page.locator("#sessions a", { hasText: "Which birds swim?" }).focus();
  await page.keyboard.press("Enter");
  await until("the other session", () => sessionOf(page) === session);

  // Letters can be switched off. The page of the other session may still take the focus for itself.
  await quiet(page);
  const keys = page.getByLabel("Single keys work outside of fields");
  await until("the help", async () => {
    await page.locator("#main").focus();
    await page.keyboard.press("?");
    return keys.waitFor({ timeout: 1000 }).then(() => true, () => false);
  });
  await keys.uncheck();
  await page.keyboard.press("Escape");
  await page.locator("#main").focus();
  await page.keyboard.press("n");
  await sleep(100);
  assert.equal(sessionOf(page), session);
  await page.evaluate(() => localStorage.clear());
  await page.close();
});

test("every control has a name, and the focus is always to be seen", async () => {
  const page = await tabs.open(`#/s/${session}`);
  await page.locator(".input-card").waitFor();
  const nameless = await page.evaluate(() =>
    [...document.querySelectorAll("button, input, textarea, select, a, summary")].filter((one) => !(one.textContent.trim() || one.getAttribute("aria-label") || one.labels?.length)).map((one) => one.outerHTML),
  );
  assert.deepEqual(nameless, []);
  await page.evaluate(() => document.activeElement?.blur());
  const unseen = [];
  for (let n = 0; n < 40; n++) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => {
      const one = document.activeElement;
      if (!one || one === document.body) return undefined;
      const style = getComputedStyle(one), around = one.parentElement ? getComputedStyle(one.parentElement) : style;
      const seen = [style, around].some(({ outlineStyle, outlineWidth }) => outlineStyle !== "none" && parseFloat(outlineWidth) > 0);
      return { seen, what: one.outerHTML.slice(0, 120) };
    });
    if (at && !at.seen) unseen.push(at.what);
  }
  assert.deepEqual(unseen, []);
  await page.close();
});

test("an answer is read out when it is whole, not token by token", async () => {
  const page = await tabs.open();
  await page.evaluate(() => {
    globalThis.heard = [];
    // The place to speak comes with the session.
    new MutationObserver(() => {
      const said = document.querySelector("#announcer")?.textContent;
      if (said && said !== globalThis.heard.at(-1)) globalThis.heard.push(said);
    }).observe(document.body, { childList: true, characterData: true, subtree: true });
  });
  await ask(page, "/echo first");
  await quiet(page);
  await until("the first is said", () => page.evaluate(() => globalThis.heard.includes("The agent answered: first")));
  await page.evaluate(() => (globalThis.heard = []));
  await ask(page, "/tokens 60 /pace 10");
  await quiet(page);
  const whole = await answer(page).textContent();
  await until("it is said", () => page.evaluate(() => globalThis.heard.some((text) => text.startsWith("The agent answered: Hello"))));
  // Other things on the page change too; what was said before them is still there.
  const heard = await page.evaluate(() => globalThis.heard.filter((text) => text !== "The agent answered: first"));
  assert.deepEqual(heard, ["The agent is working.", `The agent answered: ${whole.trim()}`]);
  assert.equal(await page.locator("#conversation").getAttribute("aria-live"), "off");
  await page.close();
});

test("a very long answer: what is there is not drawn again, and the page stays quick", async () => {
  const page = await tabs.open();
  await page.evaluate(() => {
    globalThis.longest = 0;
    let last = performance.now();
    requestAnimationFrame(function tick(now) {
      globalThis.longest = Math.max(globalThis.longest, now - last);
      last = now;
      requestAnimationFrame(tick);
    });
  });
  await ask(page, "/tokens 20000 /pace 0.2");
  await begun(page, 5000);
  // The first text node is the same one until the end, and never changes once it is full.
  await page.evaluate(() => {
    const line = document.querySelector(".message.streaming .streamed");
    globalThis.first = document.createTreeWalker(line, NodeFilter.SHOW_TEXT).nextNode();
    globalThis.removed = 0;
    globalThis.rewritten = 0;
    new MutationObserver((records) => {
      for (const { removedNodes, type, target } of records) {
        globalThis.removed += removedNodes.length;
        if (type === "characterData" && target === globalThis.first) globalThis.rewritten += 1;
      }
    }).observe(line, { childList: true, characterData: true, subtree: true });
  });
  await quiet(page);
  assert.deepEqual(await page.evaluate(() => [globalThis.first.isConnected, globalThis.removed, globalThis.rewritten]), [true, 0, 0]);
  assert.equal((await answer(page).textContent()).trim().split(" ").length, 20_000);
  await sameAsLog(hub, page);
  console.log(`# longest pause between two pictures: ${Math.round(await page.evaluate(() => globalThis.longest))} ms`);
  await screenshot(page, "console-52-long");
  await page.close();
});

test("it stays at the end until she scrolls up, and again when she comes back", async () => {
  const page = await tabs.open();
  await ask(page, "/tokens 6000 /pace 2");
  const place = page.locator("#conversation");
  const below = () => place.evaluate((it) => it.scrollHeight - it.scrollTop - it.clientHeight);
  await until("more than fits", () => place.evaluate((it) => it.scrollHeight > it.clientHeight * 1.5));
  assert.ok((await below()) < 40);
  await place.hover();
  await page.mouse.wheel(0, -300);
  await page.getByRole("button", { name: "Newest" }).waitFor();
  const top = await place.evaluate((it) => it.scrollTop);
  const height = await place.evaluate((it) => it.scrollHeight);
  await until("more text", () => place.evaluate((it, before) => it.scrollHeight > before + 200, height));
  assert.equal(await place.evaluate((it) => it.scrollTop), top, "nothing moves under her eyes");
  await screenshot(page, "console-53-scrolled-up");
  await page.getByRole("button", { name: "Newest" }).click();
  await until("the end", async () => (await below()) < 40);
  await sleep(300);
  assert.ok((await below()) < 40, "and it follows again");
  await page.keyboard.press("Escape");
  await quiet(page);
  await page.close();
});

test("dark, light, or as the system has it: the choice is kept", async () => {
  const page = await tabs.open();
  await page.emulateMedia({ colorScheme: "light" });
  const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await paper();
  await page.getByRole("button", { name: "Colours: As the system has it" }).click();
  await page.getByRole("button", { name: "Colours: Light" }).click();
  await page.getByRole("button", { name: "Colours: Dark" }).waitFor();
  const dark = await paper();
  assert.notEqual(dark, light);
  await page.reload();
  await link(page, "live");
  assert.equal(await paper(), dark);
  await page.evaluate(() => localStorage.clear());
  await page.close();
});
