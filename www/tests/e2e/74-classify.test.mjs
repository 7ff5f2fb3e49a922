// Classifying a text on the page alone, over a scripted worker.
import test, { before, after } from 'node:test';
import assert from 'node:assert/strict';
import { axe } from '../lib/browser.mjs';
import { start, stop, open, at, done, close } from '../lib/scripted.mjs';
import { hook, ladder } from '../lib/playground.mjs';

before(start);
after(stop);

const TEXT = 'What a fine day it is, and the whole street knows it.\nThe second line is read too.';
const tasks = (page) => page.locator(hook('task')).allInnerTexts();

test('a text is priced, classified, and shown with how sure the model is', async () => {
  const page = await open('', { hash: '#/classify' });
  assert.ok((await tasks(page)).includes('Classify a text'));
  assert.ok(await at(page, 'ask').isDisabled());
  await at(page, 'text').fill(TEXT);
  await at(page, 'quote').waitFor();
  const quote = await at(page, 'quote').innerText();
  for (const words of ['NES', 'The two nodes will see', 'a word of the text', 'the class that was found', '1 text']) assert.ok(quote.includes(words), words);
  assert.equal(await page.locator(hook('answer')).count(), 0, 'nothing was sent for the price');
  await at(page, 'text').press('Control+Enter');
  await page.waitForURL(/#\/q\/\d+$/);
  await done(page);
  assert.match(await at(page, 'class').innerText(), /good$/);
  const shares = (await page.locator(hook('share')).allInnerTexts()).map((row) => row.split(/\s*\n\s*/).join(' '));
  // The softmax of −1, 0 and 2.
  assert.deepEqual(shares.map((row) => row.replace(/\u00a0/g, ' ')), ['good 84.4 %', 'so so 11.4 %', 'bad 4.2 %']);
  assert.equal(await at(page, 'seal').getAttribute('data-state'), 'verified');
  assert.equal((await ladder(page))['layers-checked'], 'verified');
  assert.ok(await page.getByText('whether the model is right was not').isVisible());
  assert.equal(await page.locator('h1').innerText(), 'What a fine day it is, and the whole street…');
  await page.getByText('The text', { exact: true }).click();
  assert.equal(await at(page, 'whole-text').textContent(), TEXT);
  await close(page);
});

test('a pair is two texts, where the model reads pairs', async () => {
  const page = await open('', { hash: '#/classify' });
  await at(page, 'text').fill('A dog runs.');
  await at(page, 'pair').fill('An animal moves.');
  await at(page, 'quote').waitFor();
  await at(page, 'ask').click();
  await done(page);
  assert.equal(await page.locator('h1').innerText(), 'A dog runs.');
  await page.getByText('The text', { exact: true }).click();
  assert.equal(await at(page, 'whole-text').textContent(), 'A dog runs.\nAn animal moves.');
  await close(page);
});

test('an answer whose check failed is not called right', async () => {
  const page = await open('failed', { hash: '#/classify' });
  await at(page, 'text').fill(TEXT);
  await at(page, 'quote').waitFor();
  await at(page, 'ask').click();
  await done(page);
  assert.equal(await at(page, 'seal').getAttribute('data-state'), 'failed');
  await close(page);
});

test('the task is offered only where the network has a model for it', async () => {
  const page = await open('bare');
  await page.locator(hook('task')).first().waitFor();
  assert.deepEqual(await tasks(page), ['Search documents', 'Ask a model', 'Read a digit', 'Run any model']);
  await page.goto(new URL('#/classify', page.url()).href);
  await page.getByText('No model of this network classifies texts').waitFor();
  await at(page, 'text').fill(TEXT);
  assert.ok(await at(page, 'ask').isDisabled());
  await close(page);
});

test('what was typed outlives another page, and is one line of the history once sent', async () => {
  const page = await open('', { hash: '#/classify' });
  await at(page, 'text').fill(TEXT);
  await page.goto(new URL('#/network', page.url()).href);
  await page.goto(new URL('#/classify', page.url()).href);
  assert.equal(await at(page, 'text').inputValue(), TEXT);
  await at(page, 'quote').waitFor();
  await at(page, 'ask').click();
  await done(page);
  assert.match(await page.locator(hook('history-item')).first().innerText(), /What a fine day/);
  await page.goto(new URL('#/classify', page.url()).href);
  assert.equal(await at(page, 'text').inputValue(), '');
  await close(page);
});

test('both pages fit 390, 820 and 1440 px and please axe, light and dark', async () => {
  const page = await open('', { hash: '#/classify', viewport: { width: 390, height: 844 } });
  await at(page, 'text').fill(TEXT);
  await at(page, 'quote').waitFor();
  const looks = async (what) => {
    for (const width of [390, 820, 1440]) {
      await page.setViewportSize({ width, height: 900 });
      for (const colorScheme of ['light', 'dark']) {
        await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
        assert.deepEqual(await axe(page), [], `${what} ${width} ${colorScheme}`);
      }
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${what} scrolls sideways at ${width}`);
    }
  };
  await looks('the input');
  await at(page, 'ask').click();
  await done(page);
  await looks('the answer');
  await close(page);
});
