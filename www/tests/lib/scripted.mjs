// The page over a scripted worker: what the tests of the page alone share.
import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { launch } from './browser.mjs';
import { serve } from './serve.mjs';
import { hook } from './playground.mjs';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const dist = process.env.PAGE ?? here('../../dist');
let server, browser;

/** Serves the page with the scripted worker in place of the real one, and starts a browser. */
export async function start() {
  server = await serve(dist, { 'node-worker': here('../fixtures/ui-worker.mjs'), 'ui-chat': here('../fixtures/ui-chat.mjs'), 'ui-float': here('../fixtures/ui-float.mjs') });
  browser = await launch();
}

export async function stop() {
  await browser?.close();
  await server?.close();
}

/** A page whose scripted worker plays `scene`. */
export async function open(scene, { hash = '', ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, reducedMotion: 'reduce', ...options });
  const page = await context.newPage();
  page.problems = [];
  page.requests = [];
  page.on('pageerror', (e) => page.problems.push(String(e)));
  page.on('console', (m) => { if (m.type() === 'error') page.problems.push(m.text()); });
  page.on('request', (r) => page.requests.push(r.url()));
  await page.addInitScript((name) => {
    const Plain = globalThis.Worker;
    globalThis.Worker = class extends Plain { constructor(url, options) { super(`${url}?scene=${name}`, options); } };
  }, scene);
  await page.goto(server.url + hash);
  await page.waitForSelector(hook('status'));
  return page;
}

export const at = (page, name) => page.locator(hook(name)).last();
export const ask = async (page, question = 'Who should not be given penicillin?') => {
  await at(page, 'use-samples').click();
  await at(page, 'question').fill(question);
  await at(page, 'question').press('Enter');
};
export const done = (page, state = 'done') => page.locator(`${hook('answer')}[data-state="${state}"]`).last().waitFor({ timeout: 20_000 });
export const close = async (page) => { assert.deepEqual(page.problems, []); await page.context().close(); };
