// An isolated page of headless Chromium over files of this machine, for benchmarks.
import { chromium } from 'playwright-core';
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { join, dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The folder of these scripts, where the peers are installed. */
export const here = dirname(fileURLToPath(import.meta.url));
const types = { js: 'text/javascript', mjs: 'text/javascript', wasm: 'application/wasm', html: 'text/html' };

/**
 * Calls `work(page, browser)` with a page whose origin serves `files` (`{ '/path': FILE }`) and what is below
 * `places` (`{ '/prefix/': FOLDER }`).
 */
export async function withPage({ places, files }, work) {
  const server = createServer(async (request, response) => {
    const path = new URL(request.url, 'http://local').pathname;
    try {
      // A clock that is not rounded to 0.1 ms needs an isolated page.
      response.setHeader('cross-origin-opener-policy', 'same-origin');
      response.setHeader('cross-origin-embedder-policy', 'require-corp');
      if (path === '/') { response.setHeader('content-type', 'text/html'); return response.end('<!doctype html>'); }
      const prefix = Object.keys(places).find((p) => path.startsWith(p));
      const body = await readFile(files[path] ?? join(places[prefix], path.slice(prefix.length).replaceAll('..', '')));
      response.setHeader('content-type', types[path.split('.').pop()] ?? 'application/octet-stream');
      response.end(body);
    } catch { response.statusCode = 404; response.end(); }
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-background-networking'] });
  try {
    const page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${server.address().port}`);
    return await work(page, browser);
  } finally {
    await browser.close();
    server.close();
  }
}
