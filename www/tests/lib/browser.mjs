// Headless Chromium with a fresh profile, and the few page helpers the tests share.
import { chromium } from 'playwright-core';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const candidates = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
export const executablePath = process.env.CHROMIUM ?? candidates.find(existsSync);

export const args = [
  '--no-sandbox', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--enable-unsafe-webgpu',
  '--allow-loopback-in-peer-connection', '--disable-features=WebRtcHideLocalIpsWithMdns',
];

/** One browser process; close it when done. */
export const launch = () => chromium.launch({ executablePath, headless: true, args });

/** A page that fails the test on an uncaught error and remembers every request URL. */
export async function open(browser, url, options = {}) {
  const context = options.context ?? await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  page.problems = [];
  page.requests = [];
  page.on('pageerror', (e) => page.problems.push(String(e)));
  page.on('console', (m) => { if (m.type() === 'error') page.problems.push(m.text()); });
  page.on('request', (r) => page.requests.push(r.url()));
  await page.goto(url);
  return page;
}

const axePath = createRequire(import.meta.url).resolve('axe-core/axe.min.js');

/** Violations axe-core finds; injected through the driver, so the page's CSP stays as it is. */
export async function axe(page) {
  await page.evaluate(readFileSync(axePath, 'utf8'));
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  return violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.target.join(' ')).join(', ')}`);
}
