// A server that lies about the chain is refused before anything private leaves the page.
import test, { before, after } from 'node:test';
import assert from 'node:assert/strict';
import { up } from '../lib/network.mjs';
import { launch } from '../lib/browser.mjs';
import { hook } from '../lib/playground.mjs';

let network, browser;
before(async () => {
  network = await up();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await network?.down();
});

/** Opens the page with the bootstrap answer changed by `change`; returns what it says is wrong. */
async function openWith(change) {
  const context = await browser.newContext();
  const page = await context.newPage();
  await context.route('**/v1/bootstrap', async (route) => {
    const response = await route.fetch();
    const body = await response.json();
    change(body);
    await route.fulfill({ response, json: body });
  });
  await page.goto(network.playground);
  const status = page.locator(`${hook('status')}[data-phase="failed"]`);
  await status.waitFor({ timeout: 60_000 });
  const ask = page.locator(hook('ask'));
  if (await ask.count()) assert.ok(await ask.isDisabled(), 'nothing can be asked');
  const text = await page.locator('.note.failed').first().innerText();
  assert.match(text, /Got[\s\S]*Expected/);
  await context.close();
  return text;
}

const flip = (hex, at) => hex.slice(0, at) + (hex[at] === '0' ? '1' : '0') + hex.slice(at + 1);

test('another genesis digest', async () => {
  assert.match(await openWith((b) => { b.trust_root = flip(b.trust_root, 200); }), /failed a check/);
});

test('another group key', async () => {
  // A valid point, but not this network's: the generator of the group in compressed form.
  const generator = '93e02b6052719f607dacd3a088274f65596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e024aa2b2f08f0a91260805272dc51051c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb8';
  assert.match(await openWith((b) => { b.trust_root = generator + b.trust_root.slice(generator.length); }), /failed a check/);
});

test('another chain id', async () => {
  const renamed = (b) => { b.trust_root = b.trust_root.slice(0, -2) + (b.trust_root.endsWith('7a') ? '61' : '7a'); };
  assert.match(await openWith(renamed), /names one chain/);
  // An origin that also lies about the name is found out by the first peer.
  const both = (b) => { renamed(b); b.chain_id = b.chain_id.slice(0, -1) + String.fromCharCode(parseInt(b.trust_root.slice(-2), 16)); };
  assert.match(await openWith(both), /failed a check/);
});
