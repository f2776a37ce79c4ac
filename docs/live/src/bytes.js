// Files of the page: read, and decompressed where they are.

const GZIP = [0x1f, 0x8b];

/**
 * The content of a file.
 *
 * @param {URL} url a file; one that is compressed by gzip is decompressed. Some servers do that themselves and
 *   say so to the browser, so the content decides, not the name.
 * @returns {Promise<Uint8Array>}
 * @throws {Error} in words for the reader of the page.
 */
export async function readBytes(url) {
  const name = url.pathname.split("/").pop();
  let response;
  try {
    response = await fetch(url);
  } catch {
    throw new Error(`${name} could not be loaded: the server did not answer.`);
  }
  if (!response.ok) {
    throw new Error(`${name} could not be loaded: the server answered with status ${response.status}.`);
  }
  const bytes = new Uint8Array(await response.arrayBuffer());
  if (bytes[0] !== GZIP[0] || bytes[1] !== GZIP[1]) return bytes;
  if (typeof DecompressionStream === "undefined") {
    throw new Error("This browser cannot decompress files; use a version from 2023 or later.");
  }
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** A number of bytes in words, such as "1.6 MB". */
export function inWords(bytes) {
  return bytes < 1e6 ? `${Math.ceil(bytes / 1000)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
