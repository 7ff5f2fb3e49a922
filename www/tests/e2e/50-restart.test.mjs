// Power cut: kill -9 of every process; the same folder comes up again and the page catches up.
import test, { after } from 'node:test';
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { up } from '../lib/network.mjs';
import { launch, open } from '../lib/browser.mjs';
import { hook, ready, ask, settled, results } from '../lib/playground.mjs';
import { until } from '../lib/wait.mjs';

let network, browser;
const dir = await mkdtemp(join(tmpdir(), 'nesa-e2e-restart-'));
after(async () => {
  await browser?.close();
  await network?.down();
  await rm(dir, { recursive: true, force: true });
});

test('the network survives kill -9 of every process and the open page goes on', async () => {
  network = await up({ dir });
  browser = await launch();
  const page = await open(browser, new URL('#/network', network.playground).href);
  const newest = page.locator(`${hook('block')}[data-state="verified"]`).first();
  await newest.waitFor({ timeout: 60_000 });
  const height = async () => Number(await newest.getAttribute('data-height'));
  const before = await height();
  const { playground, trust_root: root } = network;
  await network.cut();
  network = await up({ dir });
  assert.equal(network.playground, playground, 'the address stays');
  assert.equal(network.trust_root, root, 'the trust root stays');
  await until(async () => (await height()) > before + 2, 60, 'new blocks, verified');
  await page.goto(new URL('#/playground', playground).href);
  await ready(page);
  await ask(page, 'what does the insurance cover?');
  assert.equal(await settled(page), 'done');
  assert.match((await results(page))[0], /water damage/);
});
