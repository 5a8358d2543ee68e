/** How long an estimate holds before a worse one may replace it. */
const ESTIMATE_LIFE_MS = 60_000;

/**
 * The service's clock, as this browser knows it: viewers' own clocks are off by seconds, and both
 * the now-marker and the live delay would be off with them.
 */
export class ServiceClock {
  #aheadMs = 0;
  #uncertaintyMs = Number.POSITIVE_INFINITY;
  #estimatedAtMs = Number.NEGATIVE_INFINITY;

  /** The service said `serviceTime` in answer to a request sent and answered at these instants. */
  observe(serviceTime: string, sentMs: number, answeredMs: number): void {
    const serviceMs = Date.parse(serviceTime);
    if (Number.isNaN(serviceMs)) return;
    const uncertaintyMs = (answeredMs - sentMs) / 2;
    const stale = answeredMs - this.#estimatedAtMs > ESTIMATE_LIFE_MS;
    if (uncertaintyMs > this.#uncertaintyMs && !stale) return;
    this.#aheadMs = serviceMs - (sentMs + answeredMs) / 2;
    this.#uncertaintyMs = uncertaintyMs;
    this.#estimatedAtMs = answeredMs;
  }

  nowMs(): number {
    return Date.now() + this.#aheadMs;
  }
}
