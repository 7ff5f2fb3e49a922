// The page alone, over a scripted worker: what it shows, and that it never claims more than it was told.
import test, { before, after } from 'node:test';
import assert from 'node:assert/strict';
import { axe } from '../lib/browser.mjs';
import { start, stop, open, at, ask, done, close } from '../lib/scripted.mjs';
import { hook, ladder } from '../lib/playground.mjs';
import { until } from '../lib/wait.mjs';

before(start);
after(stop);

/** Tabs forward until the element is focused, as a person without a mouse would. */
async function tabTo(page, selector) {
  for (let i = 0; i < 120; i += 1) {
    if (await page.evaluate((s) => document.activeElement.matches(s), selector)) return;
    await page.keyboard.press('Tab');
    // A focus that cannot be seen is no focus.
    const shown = await page.evaluate(() => {
      // The ring may be drawn around the box that holds the field, or the label of a hidden one.
      const ring = (e) => e && getComputedStyle(e).outlineStyle !== 'none' && parseFloat(getComputedStyle(e).outlineWidth) >= 2;
      const e = document.activeElement;
      return e === document.body || ring(e) || ring(e.closest('.ask')) || ring(e.nextElementSibling);
    });
    assert.ok(shown, `no focus ring on ${await page.evaluate(() => document.activeElement.outerHTML.slice(0, 120))}`);
  }
  throw new Error(`${selector} cannot be reached by Tab`);
}

test('the keyboard alone asks, reads, opens evidence, exports and comes back', async () => {
  const page = await open('', { acceptDownloads: true });
  const press = async (name, key = 'Enter') => { await tabTo(page, name); await page.keyboard.press(key); };
  await press(hook('use-samples'));
  await tabTo(page, hook('question'));
  await page.keyboard.type('Who should not be given penicillin?');
  await page.keyboard.press('Enter');
  await done(page);
  await until(async () => (await ladder(page)).settled === 'verified', 10, 'settlement');
  assert.equal(await at(page, 'seal').getAttribute('data-state'), 'verified');
  assert.equal((await ladder(page))['page-code'], 'notChecked');
  assert.equal(await page.locator(hook('result')).count(), 24);
  assert.match(page.url(), /#\/q\/\d+$/);
  // The seal's link leads to the ladder; evidence opens under its rung and stays open.
  await press('.seal button');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'ladder');
  await press(`${hook('rung')} summary`);
  assert.ok(await page.locator('.evidence').first().isVisible());
  await close(page);
});

test('a receipt and another page are as near to the keyboard', async () => {
  const page = await open('', { acceptDownloads: true });
  await ask(page);
  await done(page);
  await until(async () => (await ladder(page)).settled === 'verified', 10, 'settlement');
  await page.locator('h1').first().click();
  const download = page.waitForEvent('download');
  await tabTo(page, hook('export-payment'));
  await page.keyboard.press('Enter');
  assert.equal((await download).suggestedFilename(), 'payment.json');
  await page.keyboard.press('Control+k');
  await page.keyboard.type('wallet');
  await page.keyboard.press('Enter');
  await page.waitForURL(/#\/wallet$/);
  assert.equal(await page.evaluate(() => document.activeElement.id), 'main');
  assert.equal(await page.title(), 'Wallet · Nesa Playground');
  await close(page);
});

test('cost and exposure stand there before anything is sent', async () => {
  const page = await open('still');
  await at(page, 'use-samples').click();
  await at(page, 'quote').waitFor();
  const text = await at(page, 'quote').innerText();
  for (const words of ['0.31 NES', 'The two nodes will see', 'Neither of them alone will see', 'padded length']) assert.ok(text.includes(words), words);
  assert.ok(await at(page, 'ask').isDisabled(), 'a question is missing');
  await close(page);
});

test('a first visitor asks at once: wallet, test money and price come by themselves', async () => {
  const page = await open('fresh');
  await ask(page);
  await done(page);
  await close(page);
});

test('a question asked before the model is ready waits and says so', async () => {
  const page = await open('loading');
  await ask(page);
  await page.getByText('Goes out by itself.').waitFor();
  assert.equal(await page.locator(hook('answer')).count(), 0);
  assert.ok(await page.getByText('Downloading the model').isVisible());
  await close(page);
});

test('a failed rung takes the green away from the whole answer', async () => {
  const page = await open('failed');
  await ask(page);
  await done(page);
  assert.equal(await at(page, 'seal').getAttribute('data-state'), 'failed');
  assert.match(await at(page, 'seal').innerText(), /Do not rely/);
  assert.equal((await ladder(page))['committee-derived'], 'failed');
  await close(page);
});

test('a caught node is shown with its money and what came next', async () => {
  const page = await open('liar');
  await ask(page);
  await done(page);
  const text = await at(page, 'rejected').innerText();
  for (const words of ['Cedar', 'wrong product', 'burned', 'another operator']) assert.ok(text.includes(words), words);
  await close(page);
});

test('Escape stops a running query', async () => {
  const page = await open('slow');
  await ask(page);
  await done(page, 'running');
  await page.getByText(/layer \d of 6/).waitFor();
  await page.keyboard.press('Escape');
  await done(page, 'cancelled');
  await close(page);
});

test('documents come by paste, file and drop; removing one can be undone', async () => {
  const page = await open('still');
  await at(page, 'docs-input').fill('Keys. The spare key lies under the third flowerpot.');
  await at(page, 'question').focus();
  await page.locator('.doc').first().waitFor();
  await at(page, 'docs-file').setInputFiles([{ name: 'garden.md', mimeType: 'text/markdown', buffer: Buffer.from('# Garden\nPrune in February.') }]);
  await page.getByText('garden.md').first().waitFor();
  const data = await page.evaluateHandle(() => { const d = new DataTransfer(); d.items.add(new File(['Insurance. Water damage is covered.'], 'policy.txt', { type: 'text/plain' })); return d; });
  await page.dispatchEvent('.drop', 'drop', { dataTransfer: data });
  await page.getByText('policy.txt').first().waitFor();
  assert.equal(await page.locator('.doc').count(), 3);
  await page.getByRole('button', { name: 'Remove policy.txt' }).click();
  assert.equal(await page.locator('.doc').count(), 2);
  await page.getByRole('button', { name: 'Undo' }).click();
  assert.equal(await page.locator('.doc').count(), 3);
  await at(page, 'docs-file').setInputFiles([{ name: 'photo.png', mimeType: 'image/png', buffer: Buffer.from([137, 80, 78, 71, 0, 1]) }]);
  await page.getByText('photo.png is not a text file').waitFor();
  await close(page);
});

test('no question and no document is kept by the page itself', async () => {
  const page = await open('');
  await ask(page, 'Which patient is worried about losing their job?');
  await done(page);
  const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, location.href]));
  assert.doesNotMatch(kept, /worried|patient|Aldous/);
  await close(page);
});

test('an opened receipt leaves only after a yes in words', async () => {
  const page = await open('');
  await ask(page);
  await done(page);
  let files = 0;
  page.on('download', () => { files += 1; });
  await at(page, 'export-opened').click();
  await page.getByRole('button', { name: 'Keep it' }).click();
  await page.waitForTimeout(300);
  assert.equal(files, 0);
  await at(page, 'export-opened').click();
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'I agree, export it' }).click()]);
  assert.equal(download.suggestedFilename(), 'opened.nesa');
  await close(page);
});

test('history can be deleted, one entry and all', async () => {
  const page = await open('');
  await ask(page);
  await done(page);
  await page.locator(hook('history-item')).first().waitFor();
  await page.locator(hook('history-delete')).first().click();
  await page.locator('dialog[open]').getByRole('button', { name: 'Delete', exact: true }).click();
  await until(async () => (await page.locator(hook('history-item')).count()) === 0, 5, 'an empty history');
  await page.waitForURL(/#\/$/);
  await close(page);
});

test('offline and refused are told apart, with got and expected', async () => {
  const offline = await open('offline');
  await offline.getByText('No peer of this network answers.').waitFor();
  assert.equal(await at(offline, 'status').getAttribute('data-phase'), 'offline');
  await close(offline);
  const refused = await open('refused');
  await refused.getByText('another chain than the one pinned').waitFor();
  assert.equal(await at(refused, 'status').getAttribute('data-phase'), 'failed');
  assert.ok(await refused.getByText('Expected', { exact: true }).isVisible());
  await close(refused);
});

test('a receipt that fails says what failed and what was not reached', async () => {
  const page = await open('still', { hash: '#/verify' });
  await at(page, 'verify-file').setInputFiles({ name: 'bad.json', mimeType: 'application/json', buffer: Buffer.from('{}') });
  await page.locator(`${hook('verify-result')}[data-ok="false"]`).waitFor();
  const text = await at(page, 'verify-checks').innerText();
  assert.match(text, /Failed/);
  assert.match(text, /Not checked/);
  await close(page);
});

for (const hash of ['#/', '#/chat', '#/digit', '#/network', '#/block/1204', '#/donate', '#/wallet', '#/verify', '#/about']) {
  test(`${hash} opens by its link, fits 390 px and pleases axe, light and dark`, async () => {
    const page = await open('still', { hash, viewport: { width: 390, height: 844 } });
    await page.locator('h1').first().waitFor();
    if (hash === '#/block/1204') await page.getByText('State root').waitFor();
    if (hash === '#/network') await page.locator('table').waitFor();
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      assert.deepEqual(await axe(page), [], colorScheme);
    }
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'no sideways scrolling');
    await close(page);
  });
}

test('an answer pleases axe with its ladder open, light and dark', async () => {
  const page = await open('liar');
  await ask(page);
  await done(page);
  await page.locator(`${hook('rung')} summary`).first().click();
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    assert.deepEqual(await axe(page), []);
  }
  await close(page);
});
