/** Resolves after so many milliseconds. */
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
