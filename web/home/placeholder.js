// Becomes the real page when that is built. A gateway that is away for a moment
// (it may be restarting with the new bundle) is no reason to give up.
"use strict";

setInterval(async () => {
  try {
    const answer = await fetch(location.href, { method: "HEAD", cache: "no-store" });
    if (answer.ok) location.reload();
  } catch {
    // Away: the next look comes in two seconds.
  }
}, 2000);
