import { Redis } from "ioredis";

/** Counting and starting the window are one step: a crash between them would leave a counter that never expires. */
const COUNT = `
  local count = redis.call("INCR", KEYS[1])
  if count == 1 then redis.call("PEXPIRE", KEYS[1], ARGV[1]) end
  return { count, redis.call("PTTL", KEYS[1]) }`;

/**
 * @typedef {{ allowed: boolean, retryAfterSeconds: number, available: boolean }} Verdict
 * @typedef {{ take(key: string): Promise<Verdict>, close(): void }} RateLimiter
 */

/**
 * A fixed window per key. When Redis does not answer the request passes: one entry per address still holds, for the
 * database guards that, and a launch that nobody can enter is worse than one without a speed limit.
 * @param {string | undefined} url
 * @param {{ attempts: number, windowMs: number, onError?: (error: Error) => void }} options
 * @returns {RateLimiter}
 */
export function redisRateLimiter(url, { attempts, windowMs, onError = () => {} }) {
  const open = { allowed: true, retryAfterSeconds: 0, available: false };
  if (!url) return { take: async () => open, close: () => {} };
  const redis = new Redis(url, {
    maxRetriesPerRequest: 1,
    enableOfflineQueue: false,
    commandTimeout: 250,
    retryStrategy: (times) => Math.min(times * 100, 2_000),
  });
  redis.on("error", onError);
  return {
    async take(key) {
      try {
        const [count, leftMs] = /** @type {[number, number]} */ (await redis.eval(COUNT, 1, `rate:${key}`, windowMs));
        return {
          allowed: count <= attempts,
          retryAfterSeconds: Math.max(1, Math.ceil(leftMs / 1000)),
          available: true,
        };
      } catch (error) {
        onError(/** @type {Error} */ (error));
        return open;
      }
    },
    close: () => redis.disconnect(),
  };
}
