// Work that follows the pointer: at most once a frame, and only the newest request counts.

/**
 * A function that runs a job in the next frame with the arguments of its last call.
 *
 * @param {(isNewest: () => boolean, ...args: any[]) => Promise<void>} job is given a function that tells whether
 *   no newer request has come; it asks after each `await`, and shows nothing if one has.
 * @param {(error: Error) => void} onError called with the error of the newest job.
 * @returns {((...args: any[]) => void) & {busy: boolean}} `busy` while a job waits or runs.
 */
export function perFrame(job, onError) {
  let version = 0;
  let newest = [];
  let scheduled = false;
  let running = 0;
  const start = async () => {
    scheduled = false;
    running += 1;
    const started = version;
    const isNewest = () => started === version;
    try {
      await job(isNewest, ...newest);
    } catch (error) {
      if (isNewest()) onError(error);
    } finally {
      running -= 1;
    }
  };
  const request = (...args) => {
    newest = args;
    version += 1;
    if (!scheduled) requestAnimationFrame(start);
    scheduled = true;
  };
  return Object.defineProperty(request, "busy", { get: () => scheduled || running > 0 });
}

/** Whether the reader asked for less motion. */
export function lessMotion() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}
