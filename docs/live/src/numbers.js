// Numbers as text.

/** A mean squared error. */
export function inDigits(value) {
  return Number.isFinite(value) ? value.toFixed(4) : "";
}

/** A latent; what rounds to zero has no sign. */
export function latentText(value) {
  return Number(value.toFixed(2)).toFixed(2);
}
