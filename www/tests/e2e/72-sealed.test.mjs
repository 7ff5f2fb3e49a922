// The sealed lane and who prepares, on the page alone, over a scripted worker.
import test, { before, after } from 'node:test';
import assert from 'node:assert/strict';
import { axe } from '../lib/browser.mjs';
import { start, stop, open, at, done, close } from '../lib/scripted.mjs';
import { hook, ladder } from '../lib/playground.mjs';
import { until } from '../lib/wait.mjs';

before(start);
after(stop);

const sealedChat = async (scene = '', options = {}) => {
  const page = await open(scene, { hash: '#/chat', ...options });
  await at(page, 'lane-sealed').check();
  // Every standing that the page ever shows of a text.
  await page.evaluate(() => {
    globalThis.stood = [];
    new MutationObserver(() => {
      for (const mark of document.querySelectorAll('[data-test="standing"]')) {
        const now = mark.dataset.standing;
        if (now && globalThis.stood.at(-1) !== now) globalThis.stood.push(now);
      }
    }).observe(document.body, { subtree: true, childList: true, attributes: true, attributeFilter: ['data-standing'] });
  });
  return page;
};
const say = async (page, text = 'What is a lighthouse?') => {
  await at(page, 'message').fill(text);
  await at(page, 'message').press('Enter');
};
const stood = (page) => page.evaluate(() => globalThis.stood);
const standing = (page) => at(page, 'standing').getAttribute('data-standing');
const whole = /shoals to passing ships$/;

test('the choice says who reads, and the claims of the page change with it', async () => {
  const page = await open('', { hash: '#/chat' });
  assert.ok(await at(page, 'lane-masked').isChecked(), 'nobody reads unless one chooses so');
  await page.getByRole('heading', { name: 'Nobody else reads along' }).waitFor();
  await at(page, 'lane-sealed').check();
  await page.getByRole('heading', { name: 'Only its committee reads along' }).waitFor();
  assert.equal(await page.getByText('checked every layer').count(), 0, 'what is not checked is not promised');
  assert.equal(await page.getByText('The nodes that answer read your text').count(), 1);
  assert.ok(!(await at(page, 'disclose').isChecked()), 'nothing is published unless one agrees');
  const consent = await page.locator('label', { has: page.locator('#disclose') }).innerText();
  assert.match(consent, /publishes pieces of what your text became/);
  assert.match(await at(page, 'ask').innerText(), /Ask the committee/);
  await at(page, 'message').fill('What is a lighthouse?');
  await at(page, 'quote').waitFor();
  const quote = await at(page, 'quote').innerText();
  for (const words of ['6 nodes will see', 'every word that you ask', '3 nodes on each of 2 parts', 'NES']) assert.ok(quote.includes(words), `${words}: ${quote}`);
  assert.doesNotMatch(quote, /noise|neither alone/);
  assert.ok(await page.getByLabel('smol-talk').isDisabled(), 'its owner does not offer this lane');
  await close(page);
});

test('the choice stays where it is while the model gets ready', async () => {
  for (const width of [1280, 390]) {
    const page = await open('', { hash: '#/chat', viewport: { width, height: 900 } });
    await page.getByText('This device is ready to check').waitFor();
    const moved = await page.evaluate(() => new Promise((tell) => {
      const seen = [];
      const watch = new PerformanceObserver((list) => seen.push(...list.getEntries()));
      watch.observe({ type: 'layout-shift', buffered: true });
      setTimeout(() => {
        const sources = seen.flatMap((e) => e.sources).filter((s) => s.node?.closest?.('.lanes'));
        tell(sources.map((s) => `${s.previousRect.top} to ${s.currentRect.top}`));
      }, 100);
    }));
    assert.deepEqual(moved, [], `${width} px wide`);
    await close(page);
  }
});

test('the odds follow nodes and shards, in plain words', async () => {
  const page = await sealedChat();
  const odds = async () => at(page, 'odds').innerText();
  // 1 − (1 − (1/3)³)² = 7.3 %, for two shards on three nodes each.
  await until(async () => (await odds()).includes('If one in three of the stake is dishonest and colludes, the chance that all 3 nodes of at least one part of the model lie together, so that nobody notices, is 7.3'), 5, 'the odds');
  assert.match(await odds(), /half of the stake/);
  assert.match(await odds(), /reads your text: 91/);
  await at(page, 'replicas').fill('5');
  await at(page, 'replicas').blur();
  // 1 − (1 − (1/3)⁵)² = 0.82 %.
  await until(async () => /all 5 nodes of at least one part of the model .* is 0\.82/.test(await odds()), 5, 'the odds of five');
  await at(page, 'shards').fill('1');
  await at(page, 'shards').blur();
  await until(async () => /all 5 nodes of the model .* is 0\.41/.test(await odds()), 5, 'the odds of one shard');
  await close(page);
});

test('online shards: asked by itself, counted for each, and too few are said to be', async () => {
  const page = await sealedChat();
  await until(async () => (await page.locator(hook('online-shard')).count()) === 2, 5, 'two shards');
  const first = await page.locator(hook('online-shard')).first().innerText();
  for (const words of ['Part 1: layers 1 to 4', '5 nodes of 5 operators online']) assert.ok(first.includes(words), first);
  assert.match(await at(page, 'online').innerText(), /5 of 6 registered nodes answered just now.*enough for 3/);
  const card = page.locator(hook('model')).filter({ hasText: 'dictionary' });
  assert.match(await card.locator(hook('model-online')).innerText(), /2 shards, each on 5 nodes/);
  await close(page);
  const few = await sealedChat('few');
  await until(async () => /enough for 2 on each part, not for 3/.test(await at(few, 'online').innerText().catch(() => '')), 5, 'a warning');
  await close(few);
});

test('a text is marked until all nodes agree and stand by it; only then is it green', async () => {
  const page = await sealedChat();
  await say(page);
  await page.waitForURL(/#\/c\/\d+$/);
  await until(async () => /^a tower/.test(await at(page, 'answer-text').innerText().catch(() => '')), 10, 'the first words');
  const mark = await at(page, 'standing').innerText();
  assert.match(mark, /^Not yet verified\./);
  // Who listens hears the mark: it is text before the words, and their description.
  const described = await at(page, 'answer-text').getAttribute('aria-describedby');
  assert.equal(await page.locator(`#${described}`).innerText(), await at(page, 'standing').innerText());
  await done(page);
  assert.match(await at(page, 'answer-text').innerText(), whole);
  await until(async () => (await standing(page)) === 'agreed', 10, 'agreement');
  assert.deepEqual(await stood(page), ['provisional', 'agreed']);
  const seal = at(page, 'seal');
  assert.equal(await seal.getAttribute('data-state'), 'verified');
  assert.match(await seal.innerText(), /They have read it/);
  assert.doesNotMatch(await seal.innerText(), /Private|checked by this device/);
  const rungs = await ladder(page);
  assert.equal(rungs['traces-equal'], 'verified');
  for (const masked of ['shares-sent', 'layers-checked', 'output-bound']) assert.equal(rungs[masked], undefined, masked);
  assert.match(await page.locator('.not-proven').innerText(), /That the answer is right/);
  await page.locator('.records > summary').first().click();
  assert.match(await at(page, 'committee-record').innerText(), /Part 2, layers 5 to 8/);
  await close(page);
});

test('what changes about a text is said aloud, the words once', async () => {
  const page = await sealedChat();
  await page.evaluate(() => {
    globalThis.heard = [];
    const live = document.getElementById('announcements');
    new MutationObserver(() => heard.push(live.textContent)).observe(live, { childList: true, characterData: true, subtree: true });
  });
  await say(page);
  await until(async () => (await standing(page).catch(() => '')) === 'agreed', 15, 'agreement');
  const heard = await page.evaluate(() => heard);
  assert.ok(heard.some((text) => /not yet verified: a tower .* ships$/.test(text)), heard.join(' | '));
  assert.match(heard.at(-1), /^Agreed\./);
  assert.ok(heard.length <= 5, heard.join(' | '));
  await close(page);
});

test('a lie is shown as one, and the text never turns green', async () => {
  const page = await sealedChat('liar');
  await say(page);
  await done(page, 'failed');
  assert.equal(await standing(page), 'disputed');
  assert.match(await at(page, 'rejected').innerText(), /contradict each other/);
  assert.match(await at(page, 'rejected').innerText(), /Nothing was published/);
  assert.equal(await at(page, 'seal').getAttribute('data-state'), 'failed');
  assert.equal((await ladder(page))['replicas-agreed'], 'failed');
  assert.ok(!(await stood(page)).includes('agreed'));
  assert.match(await at(page, 'ended').innerText(), /was not verified/);
  await close(page);
});

test('a node that leaves is news, not an error', async () => {
  const page = await sealedChat('crash');
  await say(page);
  await at(page, 'replaced').waitFor();
  assert.match(await at(page, 'replaced').innerText(), /A node of part 2 left after 3 tokens .* the text goes on unchanged/);
  assert.equal(await page.locator('.note.failed').count(), 0);
  await done(page);
  assert.match(await at(page, 'answer-text').innerText(), whole);
  await close(page);
});

test('traces that never come leave a text unverified', async () => {
  const page = await sealedChat('unrevealed');
  await say(page);
  await until(async () => (await standing(page).catch(() => '')) === 'unverified', 15, 'an end of waiting');
  assert.notEqual(await at(page, 'seal').getAttribute('data-state'), 'verified');
  assert.ok(!(await stood(page)).includes('agreed'));
  await close(page);
});

test('stop, and write again: in the same lane, and what was stopped is not called checked', async () => {
  const page = await sealedChat('slow');
  await say(page);
  await until(async () => /^a tower with a/.test(await at(page, 'answer-text').innerText().catch(() => '')), 10, 'four words');
  assert.match(await at(page, 'standing').innerText(), /All nodes agree on 2 of 4 tokens/);
  await page.keyboard.press('Escape');
  await done(page, 'cancelled');
  assert.match(await at(page, 'ended').innerText(), /You stopped it. What is shown was not verified./);
  assert.equal(await standing(page), 'unverified');
  await close(page);
  const again = await sealedChat();
  await say(again);
  await done(again);
  await at(again, 'regenerate').click();
  assert.ok(await again.getByText('by nodes drawn anew').isVisible());
  await until(async () => /NES/.test(await at(again, 'price-line').innerText()), 10, 'the price');
  await again.keyboard.press('Enter');
  await until(async () => (await at(again, 'versions').innerText().catch(() => '')).includes('2 of 2'), 10, 'two answers');
  await until(async () => (await standing(again)) === 'agreed', 15, 'agreement on the second');
  await again.reload();
  await until(async () => (await standing(again).catch(() => '')) === 'agreed', 10, 'what was known before the reload');
  await at(again, 'settings').click();
  assert.ok(await at(again, 'lane-sealed').isChecked(), 'the conversation remembers its lane');
  assert.deepEqual(await axe(again), []);
  await close(again);
});

test('a large model is prepared by others where that saves a download, and says what that assumes', async () => {
  const page = await open('', { hash: '#/chat' });
  await page.getByLabel('smol-talk').check();
  const choice = at(page, 'preparation');
  assert.ok(await at(page, 'prepare-thin').isChecked());
  for (const words of ['138 MB', '31 MB', 'whoever colludes', 'all four serve the same wrong weights']) assert.ok((await choice.innerText()).includes(words), words);
  await at(page, 'message').fill('Hello');
  await until(async () => (await page.locator(hook('model')).filter({ hasText: 'smol-talk' }).locator(hook('model-phase')).innerText()) === 'ready', 10, 'a thin preparation');
  await at(page, 'prepare-local').check();
  await until(async () => /MB checked|ready/.test(await page.locator(hook('model')).filter({ hasText: 'smol-talk' }).locator(hook('model-phase')).innerText()), 10, 'a local one');
  await page.getByLabel('dictionary').check();
  assert.ok(await at(page, 'prepare-local').isChecked(), 'a small model is downloaded');
  assert.deepEqual(await axe(page), []);
  await close(page);
});

test('keyboard alone chooses the lane, and it fits 390, 820 and 1440 px in light and dark', async () => {
  const page = await open('', { hash: '#/chat', viewport: { width: 390, height: 844 } });
  await at(page, 'lane-masked').focus();
  await page.keyboard.press('ArrowDown');
  assert.ok(await at(page, 'lane-sealed').isChecked());
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'replicas');
  const fits = async () => {
    for (const width of [390, 820, 1440]) {
      await page.setViewportSize({ width, height: 900 });
      for (const colorScheme of ['light', 'dark']) {
        await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
        assert.deepEqual(await axe(page), [], `${width} ${colorScheme}`);
      }
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `no sideways scrolling at ${width}`);
    }
  };
  await until(async () => (await page.locator(hook('online-shard')).count()) === 2, 5, 'two shards');
  await fits();
  await say(page);
  await until(async () => (await standing(page).catch(() => '')) === 'agreed', 15, 'agreement');
  await fits();
  await close(page);
});
