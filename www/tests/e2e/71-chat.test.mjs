// Chats, digits and models on the page alone, over a scripted worker.
import test, { before, after } from 'node:test';
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { axe } from '../lib/browser.mjs';
import { start, stop, open, at, done, close } from '../lib/scripted.mjs';
import { hook, ladder } from '../lib/playground.mjs';
import { until } from '../lib/wait.mjs';

before(start);
after(stop);

const LIGHTHOUSE = 'What is a lighthouse?';
const chat = (scene = '', options = {}) => open(scene, { hash: '#/chat', ...options });
const say = async (page, text = LIGHTHOUSE) => {
  await at(page, 'message').fill(text);
  await at(page, 'message').press('Enter');
};
const answers = (page) => page.locator(hook('answer-text'));
const text = (page) => answers(page).last().innerText();
/** Waits until the number of answers that ended is `count`. */
const ended = (page, count) => until(async () => (await page.locator(`${hook('answer')}:not([data-state="running"])`).count()) === count, 15, `${count} answers`);
const priced = (page) => until(async () => /NES/.test(await at(page, 'price-line').innerText()), 10, 'the price');

test('a question is priced, answered as it is written, sealed, and kept under its address', async () => {
  const page = await chat();
  await at(page, 'message').fill(LIGHTHOUSE);
  await at(page, 'quote').waitFor();
  const quote = await at(page, 'quote').innerText();
  for (const words of ['NES', 'The two nodes will see', 'a word of the answer', 'to write']) assert.ok(quote.includes(words), words);
  assert.equal(await page.locator(hook('answer')).count(), 0, 'nothing was sent for the price');
  await at(page, 'message').press('Enter');
  await page.waitForURL(/#\/c\/\d+$/);
  // It grows: some words are there while others are still to come.
  await until(async () => /^a tower/.test(await text(page).catch(() => '')), 10, 'the first words');
  await done(page);
  assert.equal(await text(page), 'a tower with a light that gives warning of shoals to passing ships');
  assert.equal(await at(page, 'seal').getAttribute('data-state'), 'verified');
  assert.equal((await ladder(page))['layers-checked'], 'verified');
  const figures = await at(page, 'figures').innerText();
  for (const words of ['First token after 1.4 s', '11.6 tokens a second', '9 tokens read']) assert.ok(figures.includes(words), `${words}: ${figures}`);
  assert.ok(await page.getByText('A token appears only after this device has checked every layer').isVisible());
  assert.equal(await page.evaluate(() => document.activeElement.id), 'message', 'one can type on');
  await close(page);
});

test('an answer is read out once, whole, not token by token', async () => {
  const page = await chat();
  await page.evaluate(() => {
    globalThis.heard = [];
    const live = document.getElementById('announcements');
    new MutationObserver(() => heard.push(live.textContent)).observe(live, { childList: true, characterData: true, subtree: true });
  });
  await say(page);
  await done(page);
  const heard = await page.evaluate(() => heard);
  assert.ok(heard.length <= 4, heard.join(' | '));
  assert.ok(heard.at(-1).endsWith('shoals to passing ships'), heard.join(' | '));
  assert.equal(await at(page, 'answer').getAttribute('aria-live'), null);
  await close(page);
});

test('Shift Enter starts a new line, Escape stops, and what was written stays', async () => {
  const page = await chat('slow');
  await at(page, 'message').fill('What is');
  await at(page, 'message').press('Shift+Enter');
  await page.keyboard.type('a lighthouse?');
  assert.equal(await at(page, 'message').inputValue(), 'What is\na lighthouse?');
  await at(page, 'message').press('Enter');
  await until(async () => /^a tower with a/.test(await text(page).catch(() => '')), 10, 'four words');
  assert.ok(await at(page, 'ask').isDisabled(), 'one answer at a time');
  await page.keyboard.press('Escape');
  await done(page, 'cancelled');
  assert.match(await at(page, 'ended').innerText(), /You stopped it. What is shown was checked./);
  assert.equal(await text(page), 'a tower with a');
  assert.notEqual(await at(page, 'seal').getAttribute('data-state'), 'verified');
  await close(page);
});

test('an answer can be written again; both stay, and the one shown is the one that counts', async () => {
  const page = await chat();
  await say(page);
  await done(page);
  const first = await text(page);
  await at(page, 'regenerate').click();
  assert.ok(await page.getByText('answered again, under new masks').isVisible());
  await priced(page);
  await page.keyboard.press('Enter');
  await until(async () => (await at(page, 'versions').innerText().catch(() => '')).includes('2 of 2'), 10, 'two answers');
  await done(page);
  const second = await text(page);
  assert.notEqual(second, first);
  assert.equal(await page.locator(hook('answer')).count(), 1);
  await at(page, 'earlier').click();
  await until(async () => (await text(page)) === first, 5, 'the first answer');
  assert.match(await at(page, 'versions').innerText(), /1 of 2/);
  assert.ok(await at(page, 'earlier').isDisabled());
  await at(page, 'later').click();
  await until(async () => (await text(page)) === second, 5, 'the second answer');
  await close(page);
});

test('an edited question starts a conversation of its own; the old one stays', async () => {
  const page = await chat();
  await say(page);
  await done(page);
  const old = page.url();
  await say(page, 'And what is a buoy?');
  await ended(page, 2);
  await page.locator(hook('edit')).first().click();
  assert.equal(await at(page, 'message').inputValue(), LIGHTHOUSE);
  await page.keyboard.press('Escape');
  assert.equal(await at(page, 'message').inputValue(), '', 'Escape leaves the question as it was');
  await page.locator(hook('edit')).first().click();
  await say(page, 'What is a beacon?');
  await page.waitForURL((url) => url.href !== old);
  await ended(page, 1);
  assert.deepEqual(await page.locator('.said').allInnerTexts(), ['What is a beacon?']);
  await page.goto(old);
  await ended(page, 2);
  assert.deepEqual(await page.locator('.said').allInnerTexts(), [LIGHTHOUSE, 'And what is a buoy?']);
  await close(page);
});

test('settings are sent: system prompt, temperature, top-k, top-p, most tokens, seed', async () => {
  const page = await chat();
  await page.getByLabel('smol-talk').check();
  await at(page, 'message').fill('repeat the system prompt');
  await at(page, 'settings').click();
  const set = async (name, value) => { await at(page, name).fill(value); await at(page, name).blur(); };
  await set('system', 'Answer in verse.');
  await at(page, 'temperature').fill('0.8');
  await set('top-k', '40');
  await set('top-p', '0.95');
  await set('max-tokens', '64');
  await set('seed', '12x');
  assert.equal(await at(page, 'seed').getAttribute('aria-invalid'), 'true');
  await set('seed', '123');
  assert.deepEqual(await axe(page), []);
  await page.keyboard.press('Escape');
  assert.equal(await page.locator(`${hook('drawer')}[open]`).count(), 0);
  await at(page, 'message').press('Enter');
  await done(page);
  assert.equal(await text(page), 'You said: Answer in verse.');
  assert.match(await at(page, 'figures').innerText(), /seed 123/);
  // The conversation remembers; another one does not inherit what is typed here.
  await at(page, 'settings').click();
  for (const [name, value] of [['system', 'Answer in verse.'], ['top-k', '40'], ['top-p', '0.95'], ['max-tokens', '64'], ['seed', '123']]) assert.equal(await at(page, name).inputValue(), value, name);
  await close(page);
});

test('a model without a template says what it does not read', async () => {
  const page = await chat();
  await page.locator(hook('model')).filter({ hasText: 'dictionary' }).getByText('Reads your last message only').waitFor();
  await at(page, 'settings').click();
  assert.ok(await at(page, 'system').isDisabled());
  await close(page);
});

test('each model shows lanes, price, size, digest and nodes; one that cannot be asked privately cannot be chosen', async () => {
  const page = await chat();
  const model = page.locator(hook('model')).filter({ hasText: 'dictionary' });
  const said = await model.innerText();
  for (const words of ['0.000009 NES a token', '8.4 MB', '4 nodes of 3 operators', 'masked, sealed', '256 tokens']) assert.ok(said.includes(words), `${words}: ${said}`);
  assert.equal(await model.getByRole('button', { name: 'Copy the model’s digest' }).count(), 1);
  assert.equal(await page.locator(hook('model')).count(), 3, 'encoders and classifiers are not offered for a chat');
  assert.ok(await page.getByLabel('open-lane').isDisabled());
  await until(async () => (await model.locator(hook('model-phase')).innerText()) === 'ready', 10, 'the small model by itself');
  const large = page.locator(hook('model')).filter({ hasText: 'smol-talk' });
  await page.getByLabel('smol-talk').check();
  assert.match(await large.locator(hook('model-phase')).innerText(), /not on this device yet/, 'a large one waits');
  await say(page, 'Hello');
  await done(page);
  await close(page);
});

test('a network without such a model says so', async () => {
  const page = await chat('bare');
  await page.getByText('No model of this network writes text').waitFor();
  assert.ok(await at(page, 'ask').isDisabled());
  await close(page);
});

test('what a model writes can neither run nor load', async () => {
  const page = await chat();
  await say(page, 'Be hostile');
  await done(page);
  const said = await text(page);
  for (const words of ['<script>document.title = "owned"</script>', '<img src="https://evil.example/pixel.png"', '(javascript:document.title="owned")', 'image not loaded: pixel (https://evil.example/tracker.png)', '<iframe']) assert.ok(said.includes(words), words);
  const inside = (selector) => answers(page).last().locator(selector).count();
  for (const selector of ['script', 'img', 'iframe', 'svg', '[onerror]', '[style]']) assert.equal(await inside(selector), 0, selector);
  assert.deepEqual(await answers(page).last().locator('a').evaluateAll((all) => all.map((a) => [a.getAttribute('href'), a.rel, a.target])), [['https://example.org/a', 'noopener noreferrer nofollow', '_blank']]);
  assert.doesNotMatch(await page.title(), /owned/);
  assert.deepEqual(page.requests.filter((u) => u.includes('evil')), []);
  await close(page);
});

test('an answer keeps its form: headings, lists, code, tables, quotes', async () => {
  const page = await chat();
  await say(page, 'Show your form');
  await done(page);
  const md = answers(page).last();
  for (const [selector, words] of [['h2', 'In short'], ['strong', 'lighthouse'], ['em', 'bright light'], ['ol li', 'it warns ships'], ['pre code', 'println!'], ['figcaption', 'rust'], ['th', 'part'], ['td', 'lamp'], ['blockquote', 'Built to be seen.']]) {
    assert.ok((await md.locator(selector).first().innerText()).includes(words), selector);
  }
  assert.deepEqual(await axe(page), []);
  await close(page);
});

test('a query that breaks off says why, keeps what was checked, and can be tried again', async () => {
  const page = await chat('broken');
  await say(page);
  await done(page, 'failed');
  assert.ok(await page.getByText('No second node answered in time.').isVisible());
  assert.match(await at(page, 'ended').innerText(), /It broke off here. What is shown was checked./);
  assert.equal(await text(page), 'a tower with');
  await at(page, 'regenerate').click();
  await priced(page);
  await at(page, 'ask').click();
  await until(async () => (await at(page, 'versions').innerText().catch(() => '')).includes('2 of 2'), 10, 'another try');
  await close(page);
});

test('a failed rung takes the green away from a chat’s answer too', async () => {
  const page = await chat('failed');
  await say(page);
  await done(page);
  assert.equal(await at(page, 'seal').getAttribute('data-state'), 'failed');
  assert.match(await at(page, 'seal').innerText(), /Do not rely/);
  await close(page);
});

test('offline says so, and what is typed waits', async () => {
  const page = await chat('offline');
  await at(page, 'message').fill(LIGHTHOUSE);
  await at(page, 'message').press('Enter');
  await page.getByText('Goes out by itself. Offline').waitFor();
  assert.equal(await page.locator(hook('answer')).count(), 0);
  await close(page);
});

test('a reload keeps conversations; they can be renamed, and deleted only after a yes', async () => {
  const page = await chat();
  await say(page);
  await done(page);
  await page.reload();
  await ended(page, 1);
  assert.match(await text(page), /^a tower/);
  await until(async () => (await ladder(page))['output-bound'] === 'verified', 10, 'its ladder');
  await at(page, 'rename').click();
  await at(page, 'title-field').fill('Lights at sea');
  await page.keyboard.press('Enter');
  await until(async () => (await at(page, 'title').innerText()) === 'Lights at sea', 5, 'the new title');
  await page.reload();
  await page.locator(hook('history-item')).filter({ hasText: 'Lights at sea' }).first().waitFor();
  await at(page, 'delete-talk').click();
  await page.getByRole('button', { name: 'Keep it' }).click();
  await at(page, 'delete-talk').click();
  await page.locator('dialog[open]').getByRole('button', { name: 'Delete', exact: true }).click();
  await page.waitForURL(/#\/chat$/);
  await until(async () => (await page.locator(hook('history-item')).count()) === 0, 5, 'an empty history');
  await close(page);
});

test('a link to another device’s conversation says so, without alarm', async () => {
  const page = await open('', { hash: '#/c/5' });
  await page.getByRole('heading', { name: 'This conversation is not on this device' }).waitFor();
  assert.equal(await page.locator('.note.failed').count(), 0);
  await close(page);
});

test('an answer cut by a reload says so', async () => {
  const page = await chat('slow');
  await say(page);
  await until(async () => /^a tower with a/.test(await text(page).catch(() => '')), 10, 'four words');
  await page.reload();
  await until(async () => (await page.locator(hook('answer')).count()) === 1, 10, 'the turn');
  await done(page, 'interrupted');
  assert.match(await at(page, 'ended').innerText(), /The page closed in the middle/);
  await close(page);
});

test('a conversation is exported after a yes, and imported with its answers and receipts', async () => {
  const page = await chat('', { acceptDownloads: true });
  await say(page);
  await done(page);
  let files = 0;
  page.on('download', () => { files += 1; });
  await at(page, 'export-talk').click();
  await page.getByRole('button', { name: 'Keep it' }).click();
  await page.waitForTimeout(200);
  assert.equal(files, 0);
  await at(page, 'export-talk').click();
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'I agree, export it' }).click()]);
  const bytes = await readFile(await download.path());
  const before = page.url();
  const choose = (buffer, name) => page.locator(hook('import')).first().setInputFiles({ name, mimeType: 'application/octet-stream', buffer });
  await choose(Buffer.from('{"kind":"other"}'), 'other.nesa');
  await page.locator('#main').getByText('other.nesa is no exported conversation.').waitFor();
  await choose(bytes, 'conversation.nesa');
  await page.waitForURL((url) => url.href !== before);
  await ended(page, 1);
  assert.match(await text(page), /^a tower/);
  await page.locator('.records > summary').first().click();
  assert.ok(await at(page, 'export-payment').isEnabled());
  await close(page);
});

test('what is typed in one conversation is not sent from another', async () => {
  const page = await chat();
  await say(page);
  await done(page);
  await at(page, 'message').fill('half a thought');
  await page.locator('.rail').getByRole('link', { name: 'New chat' }).click();
  await page.waitForURL(/#\/chat$/);
  assert.equal(await at(page, 'message').inputValue(), '');
  await page.goBack();
  await until(async () => (await at(page, 'message').inputValue()) === 'half a thought', 5, 'the half thought');
  await close(page);
});

test('no message and no answer is kept by the page itself', async () => {
  const page = await chat();
  await say(page);
  await done(page);
  const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, location.href]));
  assert.doesNotMatch(kept, /lighthouse|tower/);
  await close(page);
});

test('the palette reaches chat, settings, digits and a second answer', async () => {
  const page = await open('');
  const command = async (words) => { await page.keyboard.press('Control+k'); await page.keyboard.type(words); await page.keyboard.press('Enter'); };
  await command('new chat');
  await page.waitForURL(/#\/chat$/);
  await command('temperature');
  await page.locator(`${hook('drawer')}[open]`).waitFor();
  await page.keyboard.press('Escape');
  await command('read a digit');
  await page.waitForURL(/#\/digit$/);
  await close(page);
});

test('a digit is drawn, shown as the model sees it, and read', async () => {
  const page = await open('', { hash: '#/digit' });
  assert.ok(await at(page, 'ask').isDisabled());
  const box = await at(page, 'pad').boundingBox();
  const to = (x, y) => [box.x + box.width * x, box.y + box.height * y];
  await page.mouse.move(...to(0.3, 0.2));
  await page.mouse.down();
  await page.mouse.move(...to(0.7, 0.2), { steps: 5 });
  await page.mouse.move(...to(0.45, 0.85), { steps: 8 });
  await page.mouse.up();
  const numbers = async () => (await at(page, 'seen').textContent()).trim().split(/\s+/).map(Number);
  const seen = await numbers();
  assert.equal(seen.length, 64);
  assert.ok(seen.every((n) => n >= 0 && n <= 16) && seen.some((n) => n > 8), seen.join(' '));
  await at(page, 'quote').waitFor();
  assert.match(await at(page, 'quote').innerText(), /a pixel of the drawing/);
  await at(page, 'ask').click();
  await page.waitForURL(/#\/q\/\d+$/);
  await done(page);
  assert.match(await at(page, 'digit-class').innerText(), /7/);
  assert.equal(await at(page, 'seal').getAttribute('data-state'), 'verified');
  assert.deepEqual((await at(page, 'seen').textContent()).trim().split(/\s+/).map(Number), seen, 'what was sent is what was shown');
  assert.deepEqual(await axe(page), []);
  await close(page);
});

test('the pad works with a finger and with the keyboard alone', async () => {
  const page = await open('', { hash: '#/digit', hasTouch: true });
  const box = await at(page, 'pad').boundingBox();
  await page.touchscreen.tap(box.x + box.width / 2, box.y + box.height / 2);
  await page.locator('.pad path').first().waitFor({ state: 'attached' });
  await at(page, 'clear').click();
  assert.equal(await page.locator('.pad path').count(), 0);
  await at(page, 'pad').focus();
  await page.keyboard.press('Space');
  for (let i = 0; i < 10; i += 1) await page.keyboard.press('ArrowDown');
  await page.getByText(/^Drawing, column 16, row 26 of 32/).waitFor({ state: 'attached' });
  await page.keyboard.press('Space');
  assert.equal(await page.locator('.pad path').count(), 1);
  await page.keyboard.press('Backspace');
  assert.equal(await page.locator('.pad path').count(), 0);
  await page.locator(hook('digit-example')).nth(4).click();
  assert.equal(await page.locator('.pad path').count(), 2);
  await at(page, 'undo').click();
  assert.equal(await page.locator('.pad path').count(), 1);
  await close(page);
});

test('a conversation fits 390, 820 and 1440 px and pleases axe, light and dark', async () => {
  const page = await chat('', { viewport: { width: 390, height: 844 } });
  await say(page, 'Show your form');
  await done(page);
  for (const width of [390, 820, 1440]) {
    await page.setViewportSize({ width, height: 900 });
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      assert.deepEqual(await axe(page), [], `${width} ${colorScheme}`);
    }
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `no sideways scrolling at ${width}`);
  }
  await close(page);
});
