import { html, raw } from "./html.js";

/**
 * The products, drawn. Each function returns the inside of an SVG; the page puts it on a panel of the
 * product's own tone. Everything is generated here, so the shop needs no image from anywhere.
 */
const DRAWINGS = { sneaker, runner, coat, boot, tote, knit };

const ALT = {
  sneaker: "Low leather sneaker, cream with a sea-green sole, seen from the side",
  runner: "Running shoe in slate and sand with one red line from heel to toe, seen from the side",
  coat: "Long midnight-blue wool coat with a standing collar, seen from the front",
  boot: "Black lace-up leather boot with a welted sole, seen from the side",
  tote: "Upright canvas tote bag with leather handles and base",
  knit: "Patterned lambswool jumper with bands of colour from dusk to dawn",
};

/** Each drawing's own frame in the 800 × 640 it is drawn in, so that every product fills its panel alike. */
const FRAMES = {
  sneaker: "52 150 720 420",
  runner: "40 150 740 420",
  coat: "140 24 520 616",
  boot: "130 20 620 570",
  tote: "110 24 580 580",
  knit: "110 50 580 570",
};

/** Names of arts end up in class names; a name we do not know becomes one we do. */
export const knownArt = (art) => (Object.hasOwn(DRAWINGS, art) ? art : "tote");

/**
 * @param {string} art
 * @param {{ decorative?: boolean }} [options] decorative: the text beside it says the same
 */
export function drawing(art, { decorative = false } = {}) {
  const name = knownArt(art);
  // The same drawing may be on a page twice, and ids must not be.
  serial = (serial + 1) % 1_000_000;
  const id = `${name}${serial}`;
  const inside = raw(DRAWINGS[name]((suffix) => `${id}-${suffix}`));
  return decorative
    ? html`<svg class="art" viewBox="${FRAMES[name]}" aria-hidden="true" focusable="false">${inside}</svg>`
    : html`<svg class="art" viewBox="${FRAMES[name]}" role="img" aria-label="${ALT[name]}">${inside}</svg>`;
}
let serial = 0;

function gradient(id, stops, direction = `x1="0" y1="0" x2="0" y2="1"`) {
  const list = stops.map(
    ([offset, color, opacity = 1]) => `<stop offset="${offset}" stop-color="${color}" stop-opacity="${opacity}"/>`,
  );
  return `<linearGradient id="${id}" ${direction}>${list.join("")}</linearGradient>`;
}

function shadow(id, cx, cy, rx, ry = 22) {
  return `<radialGradient id="${id}"><stop offset="0" stop-color="#000" stop-opacity=".42"/><stop offset=".55" stop-color="#000" stop-opacity=".16"/><stop offset="1" stop-color="#000" stop-opacity="0"/></radialGradient>
  <ellipse cx="${cx}" cy="${cy}" rx="${rx}" ry="${ry}" fill="url(#${id})"/>`;
}

const stitch = (d, color, width = 1.6) =>
  `<path d="${d}" fill="none" stroke="${color}" stroke-width="${width}" stroke-dasharray="6 4.5" stroke-linecap="round"/>`;
const line = (d, color, width = 1.6) =>
  `<path d="${d}" fill="none" stroke="${color}" stroke-width="${width}" stroke-linecap="round" stroke-linejoin="round"/>`;
const shape = (d, fill) => `<path d="${d}" fill="${fill}"/>`;

function laces(points, color, width) {
  return points
    .map(([x1, y1, x2, y2]) =>
      line(`M${x1} ${y1} Q${(x1 + x2) / 2 + 6} ${(y1 + y2) / 2 - 9} ${x2} ${y2}`, color, width),
    )
    .join("");
}

function dots(points, color, r) {
  return points.map(([x, y]) => `<circle cx="${x}" cy="${y}" r="${r}" fill="${color}"/>`).join("");
}

function sneaker(id) {
  const upper =
    "M112 446 C104 400 108 336 126 282 C130 262 146 254 164 260 C194 274 232 282 266 274 C290 262 306 232 320 206 C328 190 350 188 362 200 C398 252 444 298 508 322 C582 346 664 352 702 396 C716 414 718 432 714 446 L700 474 L124 474 Z";
  return `<defs>
    ${gradient(id("leather"), [
      [0, "#fbf6ea"],
      [0.55, "#f1e8d6"],
      [1, "#d9ccb2"],
    ])}
    ${gradient(id("panel"), [
      [0, "#f4ecdb"],
      [1, "#e0d3bb"],
    ])}
    ${gradient(id("sole"), [
      [0, "#a9cdc0"],
      [0.5, "#86b3a6"],
      [1, "#5d8c80"],
    ])}
    <clipPath id="${id("clip")}"><path d="${upper}"/></clipPath></defs>
  ${shadow(id("shadow"), 412, 512, 350, 24)}
  ${shape("M266 274 C290 262 306 232 320 206 C328 190 350 188 362 200 L372 214 C360 236 340 268 318 292 Z", "#cdbfa4")}
  ${shape(upper, `url(#${id("leather")})`)}
  <g clip-path="url(#${id("clip")})">
    ${shape("M100 250 L190 262 C206 320 214 390 212 460 L96 460 Z", `url(#${id("panel")})`)}
    ${stitch("M184 262 C200 320 208 390 206 450", "#b9a988")}
    ${shape("M330 186 C372 262 440 316 520 330 L498 388 C420 378 344 330 298 280 Z", `url(#${id("panel")})`)}
    ${stitch("M304 286 C350 334 420 372 494 382", "#b9a988")}
    ${shape("M566 330 C552 372 556 412 572 452 L730 452 L724 392 C690 348 620 340 566 330 Z", `url(#${id("panel")})`)}
    ${stitch("M572 338 C560 374 563 412 578 446", "#b9a988")}
    ${shape("M90 420 C260 448 520 452 730 430 L730 460 L90 460 Z", "#000").replace(
      'fill="#000"',
      'fill="#6d5f45" fill-opacity=".14"',
    )}
    ${shape("M126 282 C130 262 146 254 164 260 L176 264 C172 300 172 316 178 330 L114 330 Z", "#7fae9f")}
  </g>
  ${dots(
    [
      [618, 374],
      [642, 380],
      [666, 390],
      [630, 396],
      [654, 402],
    ],
    "#b5a483",
    3.4,
  )}
  ${line("M126 282 C130 262 146 254 164 260 C194 274 232 282 266 274 C290 262 306 232 320 206", "#c3b493", 3)}
  ${laces(
    [
      [352, 222, 322, 262],
      [376, 252, 342, 290],
      [402, 280, 366, 314],
      [430, 302, 396, 338],
      [462, 320, 430, 356],
    ],
    "#fffdf6",
    9,
  )}
  ${laces(
    [
      [352, 227, 324, 265],
      [376, 257, 344, 293],
      [402, 285, 368, 317],
      [430, 307, 398, 341],
      [462, 325, 432, 359],
    ],
    "#c9bb9d",
    1.4,
  )}
  ${shape("M94 440 C88 470 92 500 116 508 L688 508 C724 508 744 484 736 450 C732 438 722 438 712 440 C520 462 300 458 122 436 C108 434 98 432 94 440 Z", `url(#${id("sole")})`)}
  ${line("M104 468 C300 488 520 488 734 468", "#dcefe7", 2.4)}
  ${line("M110 497 L692 497", "#4f7b70", 1.6)}
  ${Array.from({ length: 46 }, (_, index) => line(`M${120 + index * 12.4} 498 L${120 + index * 12.4} 507`, "#4f7b70", 1.2)).join("")}
  <text x="140" y="306" font-family="Instrument Serif, serif" font-style="italic" font-size="25" fill="#f4f7f2">01</text>`;
}

function runner(id) {
  const upper =
    "M118 424 C106 380 104 320 122 262 C128 240 150 236 168 248 C196 268 236 276 266 262 C288 246 304 218 322 196 C334 184 352 186 362 200 C394 250 446 290 508 312 C588 336 668 344 706 392 C716 406 718 420 714 434 L700 468 L124 468 Z";
  return `<defs>
    ${gradient(id("mesh"), [
      [0, "#8d97a0"],
      [1, "#626d78"],
    ])}
    ${gradient(id("suede"), [
      [0, "#d9c6a5"],
      [1, "#b79f78"],
    ])}
    ${gradient(id("mid"), [
      [0, "#fbf9f4"],
      [1, "#ddd8cc"],
    ])}
    <pattern id="${id("ripstop")}" width="14" height="14" patternUnits="userSpaceOnUse" patternTransform="rotate(24)"><path d="M0 0H14M0 0V14" stroke="#fff" stroke-opacity=".16" stroke-width="1.4"/></pattern>
    <clipPath id="${id("clip")}"><path d="${upper}"/></clipPath></defs>
  ${shadow(id("shadow"), 404, 514, 350, 22)}
  ${shape("M266 262 C288 246 304 218 322 196 C334 184 352 186 362 200 L374 216 C360 240 340 268 318 288 Z", "#39414a")}
  ${shape(upper, `url(#${id("mesh")})`)}
  ${shape(upper, `url(#${id("ripstop")})`)}
  <g clip-path="url(#${id("clip")})">
    ${shape("M96 300 C160 306 206 330 232 372 C246 398 250 420 250 450 L90 450 Z", `url(#${id("suede")})`)}
    ${stitch("M100 308 C158 314 200 336 225 376 C238 400 242 420 242 444", "#8b754f")}
    ${shape("M328 188 C372 258 436 304 516 318 L500 366 C420 356 346 316 300 270 Z", `url(#${id("suede")})`)}
    ${stitch("M306 276 C350 320 420 350 496 360", "#8b754f")}
    ${shape("M596 330 C568 366 560 404 566 450 L736 450 L728 392 C700 350 640 338 596 330 Z", `url(#${id("suede")})`)}
    ${stitch("M604 338 C578 370 570 406 575 444", "#8b754f")}
    ${shape("M112 286 C210 356 330 402 470 398 C570 394 650 384 720 398 L722 416 C650 402 570 414 470 418 C330 422 200 378 106 306 Z", "#c8281c")}
  </g>
  ${line("M122 262 C128 240 150 236 168 248 C196 268 236 276 266 262 C288 246 304 218 322 196", "#444d57", 4)}
  ${laces(
    [
      [354, 216, 322, 252],
      [380, 246, 344, 280],
      [408, 272, 370, 304],
      [438, 294, 402, 328],
      [470, 310, 436, 346],
    ],
    "#f7f4ec",
    8,
  )}
  ${shape("M86 420 C74 450 72 486 98 500 C180 516 260 496 340 498 C460 502 560 516 660 500 C708 491 744 462 744 424 C740 413 727 414 716 419 C560 446 300 442 124 412 C106 406 92 408 86 420 Z", `url(#${id("mid")})`)}
  ${shape("M80 450 C200 476 330 450 450 460 C570 470 660 466 738 446 C730 474 706 491 660 500 C560 516 460 502 340 498 C260 496 180 516 98 500 C82 490 79 470 80 450 Z", "#cfc8b8")}
  ${shape("M92 497 C180 516 260 496 340 498 C460 502 560 516 672 497 L656 508 C560 525 460 513 340 510 C260 508 180 527 110 511 Z", "#2c3238")}
  ${line("M81 447 C200 473 330 447 450 457 C570 467 660 463 739 443", "#fff", 2)}`;
}

function boot(id) {
  const upper =
    "M214 92 C254 104 330 106 374 96 C384 160 380 232 402 286 C430 336 500 362 574 384 C640 402 676 426 682 474 L206 474 C190 420 206 360 212 300 C218 230 206 150 214 92 Z";
  return `<defs>
    ${gradient(
      id("hide"),
      [
        [0, "#3b3836"],
        [0.5, "#262422"],
        [1, "#141312"],
      ],
      `x1="0" y1="0" x2="1" y2="1"`,
    )}
    ${gradient(
      id("shine"),
      [
        [0, "#fff", 0],
        [0.5, "#fff", 0.16],
        [1, "#fff", 0],
      ],
      `x1="0" y1="0" x2="1" y2="0"`,
    )}
    ${gradient(id("welt"), [
      [0, "#a9794a"],
      [1, "#7d5530"],
    ])}
    <clipPath id="${id("clip")}"><path d="${upper}"/></clipPath></defs>
  ${shadow(id("shadow"), 440, 548, 300, 22)}
  ${shape("M196 100 C186 60 208 52 222 60 L226 110 Z", "#7d5530")}
  ${shape("M340 76 C360 62 384 70 388 92 L398 210 L372 230 Z", "#1a1817")}
  ${shape(upper, `url(#${id("hide")})`)}
  <g clip-path="url(#${id("clip")})">
    ${shape("M228 80 L276 80 C268 220 282 360 258 480 L206 480 Z", `url(#${id("shine")})`)}
    ${shape("M560 378 C540 410 536 444 544 480 L700 480 L690 430 C660 398 610 386 560 378 Z", "#1b1918")}
    ${stitch("M566 382 C548 412 544 444 551 474", "#6f6a64")}
    ${stitch("M574 384 C557 414 553 446 560 474", "#6f6a64")}
    ${line("M580 404 C620 410 650 424 664 446", "#fff", 5).replace("/>", ' stroke-opacity=".16"/>')}
    ${stitch("M300 90 C306 200 300 300 330 352 C372 400 450 420 548 440", "#6f6a64")}
    ${shape("M200 330 C240 336 262 360 268 400 C272 430 270 456 266 480 L196 480 Z", "#1b1918")}
    ${stitch("M204 338 C238 344 254 364 260 402 C264 430 262 452 258 474", "#6f6a64")}
    ${line("M212 118 C256 130 330 132 378 120", "#6f6a64", 1.4)}
  </g>
  ${dots(
    [
      [336, 130],
      [339, 166],
      [341, 202],
      [346, 238],
      [354, 272],
      [368, 304],
      [390, 332],
      [420, 354],
    ],
    "#b98c5c",
    5.5,
  )}
  ${laces(
    [
      [398, 122, 338, 134],
      [396, 160, 340, 170],
      [396, 196, 342, 206],
      [400, 232, 347, 242],
      [408, 266, 356, 276],
      [424, 296, 370, 308],
      [446, 322, 392, 336],
      [474, 342, 422, 358],
    ],
    "#8a6239",
    6.5,
  )}
  ${shape("M192 466 L690 466 C700 466 704 472 702 482 L700 490 L190 490 L188 476 C188 470 190 466 192 466 Z", `url(#${id("welt")})`)}
  ${stitch("M200 474 L692 474", "#e6c79d", 2)}
  ${shape("M188 490 L702 490 C706 514 698 530 680 532 L372 532 C352 532 348 516 334 516 L330 542 L196 542 C188 530 186 510 188 490 Z", "#15110e")}
  ${line("M188 508 L332 508 M188 524 L330 524", "#3a322b", 2)}`;
}

function coat(id) {
  return `<defs>
    ${gradient(id("wool"), [
      [0, "#2d3a5c"],
      [0.6, "#1f2a47"],
      [1, "#141c33"],
    ])}
    ${gradient(id("sleeve"), [
      [0, "#2a3657"],
      [1, "#10172b"],
    ])}
    ${gradient(id("collar"), [
      [0, "#465786"],
      [1, "#2f3d62"],
    ])}
    ${gradient(
      id("fold"),
      [
        [0, "#000", 0],
        [0.5, "#000", 0.26],
        [1, "#000", 0],
      ],
      `x1="0" y1="0" x2="1" y2="0"`,
    )}
    ${gradient(id("inner"), [
      [0, "#6f6150"],
      [1, "#b9a58a"],
    ])}</defs>
  ${shadow(id("shadow"), 400, 622, 200, 14)}
  ${shape("M312 126 C272 136 246 162 234 212 C212 300 198 390 196 452 C196 464 246 472 250 460 C260 396 280 324 304 258 Z", `url(#${id("sleeve")})`)}
  ${shape("M488 126 C528 136 554 162 566 212 C588 300 602 390 604 452 C604 464 554 472 550 460 C540 396 520 324 496 258 Z", `url(#${id("sleeve")})`)}
  ${shape("M346 104 C344 62 368 46 400 46 C432 46 456 62 454 104 L446 150 L402 214 L354 150 Z", `url(#${id("inner")})`)}
  ${shape("M340 96 C318 112 304 126 294 146 C284 240 290 320 276 410 C264 490 252 560 248 610 C300 621 360 624 404 622 L436 250 L400 214 C374 186 350 150 340 96 Z", `url(#${id("wool")})`)}
  ${shape("M460 96 C482 112 496 126 506 146 C516 240 510 320 524 410 C536 490 548 560 552 610 C500 621 448 624 404 622 L374 270 L400 214 C426 186 450 150 460 96 Z", `url(#${id("wool")})`)}
  ${shape("M304 244 C308 360 294 500 280 616 L322 620 C326 500 330 360 322 244 Z", `url(#${id("fold")})`)}
  ${shape("M478 244 C476 360 492 500 508 616 L466 621 C458 500 458 360 462 244 Z", `url(#${id("fold")})`)}
  ${line("M374 270 L404 622", "#0c1224", 2.4)}
  ${shape("M346 104 C342 74 350 56 372 49 C360 84 372 150 400 214 C362 200 316 178 298 136 C314 122 330 114 346 104 Z", `url(#${id("collar")})`)}
  ${shape("M454 104 C458 74 450 56 428 49 C440 84 428 150 400 214 C438 200 484 178 502 136 C486 122 470 114 454 104 Z", `url(#${id("collar")})`)}
  ${line("M372 49 C360 84 372 150 400 214 C428 150 440 84 428 49", "#6d80b0", 1.6)}
  ${line("M298 136 C316 178 362 200 400 214 C438 200 484 178 502 136", "#141c33", 2)}
  ${shape("M372 49 C380 45 420 45 428 49 C420 56 380 56 372 49 Z", "#3b4a73")}
  ${shape("M288 400 L348 390 L349 405 L288 415 Z", "#141c33")}
  ${shape("M512 400 L452 390 L451 405 L512 415 Z", "#141c33")}
  ${dots(
    [
      [418, 300],
      [423, 372],
      [428, 444],
    ],
    "#0c1224",
    9,
  )}
  ${dots(
    [
      [416, 298],
      [421, 370],
      [426, 442],
    ],
    "#c9b48f",
    7.5,
  )}
  ${stitch("M250 600 C300 611 360 614 402 612", "#4a5a86", 1.3)}
  ${stitch("M408 612 C450 614 500 611 550 600", "#4a5a86", 1.3)}
  ${line("M198 434 C214 442 234 444 252 440 M602 434 C586 442 566 444 548 440", "#4a5a86", 1.6)}`;
}

function tote(id) {
  return `<defs>
    ${gradient(id("canvas"), [
      [0, "#d8a24a"],
      [0.6, "#c68a31"],
      [1, "#a9701f"],
    ])}
    ${gradient(id("leather"), [
      [0, "#6b3a1f"],
      [1, "#46230f"],
    ])}
    ${gradient(
      id("side"),
      [
        [0, "#000", 0.22],
        [1, "#000", 0],
      ],
      `x1="0" y1="0" x2="1" y2="0"`,
    )}
    <pattern id="${id("weave")}" width="6" height="6" patternUnits="userSpaceOnUse"><path d="M0 3H6M3 0V6" stroke="#5f3b0a" stroke-opacity=".13" stroke-width="1.2"/></pattern></defs>
  ${shadow(id("shadow"), 400, 566, 260, 22)}
  ${line("M306 236 C300 110 340 62 400 62 C460 62 500 110 494 236", "#3a1c0b", 17)}
  ${shape("M202 208 L598 208 L628 552 C628 562 620 566 610 566 L190 566 C180 566 172 562 172 552 Z", `url(#${id("canvas")})`)}
  ${shape("M202 208 L598 208 L628 552 C628 562 620 566 610 566 L190 566 C180 566 172 562 172 552 Z", `url(#${id("weave")})`)}
  ${shape("M202 208 L262 208 L246 566 L190 566 C180 566 172 562 172 552 Z", `url(#${id("side")})`)}
  ${shape("M180 462 L620 462 L628 552 C628 562 620 566 610 566 L190 566 C180 566 172 562 172 552 Z", `url(#${id("leather")})`)}
  ${stitch("M182 472 L618 472", "#d9a877", 2)}
  ${shape("M200 204 C200 200 204 198 208 198 L592 198 C596 198 600 200 600 204 L602 230 L198 230 Z", `url(#${id("leather")})`)}
  ${stitch("M206 222 L596 222", "#d9a877", 2)}
  ${line("M278 300 C268 130 320 86 400 86 C480 86 532 130 522 300", "#5a2f17", 20)}
  ${line("M272 300 C262 128 316 80 400 80 C484 80 538 128 528 300", "#8a5330", 2)}
  ${shape("M262 284 L296 284 L298 344 C298 356 262 356 262 344 Z", "#5a2f17")}
  ${shape("M504 284 L538 284 L538 344 C538 356 502 356 502 344 Z", "#5a2f17")}
  ${dots(
    [
      [279, 300],
      [279, 336],
      [521, 300],
      [521, 336],
    ],
    "#e3c08c",
    5,
  )}
  ${shape("M356 372 L444 372 L444 420 L356 420 Z", "#46230f")}
  ${stitch("M362 378 L438 378 L438 414 L362 414 Z", "#d9a877", 1.4)}
  <text x="400" y="404" text-anchor="middle" font-family="Instrument Serif, serif" font-style="italic" font-size="24" fill="#ecd2ad">S. V.</text>`;
}

function knit(id) {
  const body =
    "M318 92 C346 112 454 112 482 92 C520 104 556 120 580 150 C614 214 642 330 656 446 C640 462 604 470 580 464 C566 396 552 344 536 306 C540 390 542 470 540 556 C450 574 350 574 260 556 C258 470 260 390 264 306 C248 344 234 396 220 464 C196 470 160 462 144 446 C158 330 186 214 220 150 C244 120 280 104 318 92 Z";
  const bands = ["#1d2440", "#2a3561", "#3d4c84", "#4f7d8e", "#5fa890", "#a7cfa0", "#ecd9a3", "#eeb17f", "#dd7f6c"];
  const height = 52;
  const rows = bands.map(
    (color, index) =>
      `<rect x="120" y="${560 - (index + 1) * height}" width="560" height="${height + (index === 0 ? 30 : 1)}" fill="${color}"/>`,
  );
  const motifs = bands.flatMap((_, index) => {
    const y = 560 - index * height;
    const color = bands[(index + 1) % bands.length];
    return Array.from({ length: 29 }, (_, column) => {
      const x = 120 + column * 20;
      return index % 2 === 0
        ? `<path d="M${x} ${y - height + 2} l10 14 l10 -14 z" fill="${color}"/><path d="M${x + 10} ${y - 14} l5 6 l-5 6 l-5 -6 z" fill="${color}" fill-opacity=".8"/>`
        : `<path d="M${x} ${y - height + 1} l6 10 h8 l6 -10 z" fill="${color}"/><path d="M${x + 2} ${y - 16} l8 -8 l8 8" fill="none" stroke="${color}" stroke-width="3.4"/>`;
    });
  });
  return `<defs>
    <clipPath id="${id("clip")}"><path d="${body}"/></clipPath>
    <pattern id="${id("stitch")}" width="10" height="9" patternUnits="userSpaceOnUse"><path d="M0 0 L5 6 L10 0" fill="none" stroke="#000" stroke-opacity=".16" stroke-width="1.8"/></pattern>
    ${gradient(id("light"), [
      [0, "#fff", 0.14],
      [0.5, "#fff", 0],
      [1, "#000", 0.24],
    ])}
    ${gradient(
      id("arm"),
      [
        [0, "#000", 0],
        [1, "#000", 0.34],
      ],
      `x1="0" y1="0" x2="1" y2="0"`,
    )}</defs>
  ${shadow(id("shadow"), 400, 588, 210, 16)}
  ${shape("M318 92 C340 72 460 72 482 92 C454 118 346 118 318 92 Z", "#7c3f38")}
  <g clip-path="url(#${id("clip")})">
    ${rows.join("")}${motifs.join("")}
    <rect x="120" y="60" width="560" height="46" fill="#dd7f6c"/>
    <rect x="120" y="60" width="560" height="530" fill="url(#${id("stitch")})"/>
    <rect x="120" y="60" width="560" height="530" fill="url(#${id("light")})"/>
    ${shape("M264 306 C248 344 234 396 220 464 L258 470 C258 400 260 350 264 306 Z", "#0b0f20").replace("/>", ' fill-opacity=".5"/>')}
    ${line("M266 190 C268 230 266 270 264 306 M534 190 C532 230 534 270 536 306", "#0b0f20", 3).replace("/>", ' stroke-opacity=".22"/>')}
    <path d="M250 528 H550 V580 H250 Z M130 424 H240 V480 H130 Z M560 424 H670 V480 H560 Z" fill="#141a30" fill-opacity=".55"/>
  </g>
  ${Array.from({ length: 24 }, (_, index) => line(`M${268 + index * 11.5} 536 V562`, "#0b0f20", 2).replace("/>", ' stroke-opacity=".4"/>')).join("")}
  ${line("M318 92 C346 114 454 114 482 92", "#f0a695", 9)}
  ${line("M318 92 C346 114 454 114 482 92", "#b65f50", 1.6)}`;
}
