// Waiting on what the page shows, with an error that says what it showed instead.
export async function expectPhase(page, phase, seconds) {
  const status = page.locator('[data-test="status"]');
  try {
    await page.locator(`[data-test="status"][data-phase="${phase}"]`).waitFor({ timeout: seconds * 1000 });
  } catch {
    const text = await status.innerText().catch(() => 'no status element');
    const now = await status.getAttribute('data-phase').catch(() => null);
    throw new Error(`the page stayed in phase ${now} (${text}) instead of ${phase}; problems: ${page.problems.join(' | ')}`);
  }
}

/** Polls until `check` returns something truthy. */
export async function until(check, seconds, what) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const value = await check();
    if (value) return value;
    if (Date.now() > end) throw new Error(`not within ${seconds} s: ${what}`);
    await new Promise((r) => setTimeout(r, 200));
  }
}
