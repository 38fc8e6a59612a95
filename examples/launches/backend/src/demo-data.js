import { commitmentOf, newSeed } from "./draw.js";
import { emailKey } from "./email.js";
import { newTicket } from "./ticket.js";

const SECOND = 1;
const HOUR = 3_600;
const DAY = 86_400;
const SHOE_SIZES = "36,37,38,39,40,41,42,43,44,45,46";
const CLOTHES_SIZES = "XS,S,M,L,XL";

/** Times are seconds from the first deployment. `entries`: how many people have entered already. */
const DEMO_LAUNCHES = [
  {
    slug: "tidewater-low",
    title: "Tidewater Low",
    subtitle: "Undyed calfskin, sea-glass sole",
    story:
      "Cut from one hide per pair and left undyed, so that every pair ages to its owner. The sole is cast from recycled float glass rubber; no two are quite the same green. Twelve pairs, numbered on the tongue.",
    art: "sneaker",
    priceCents: 28_000,
    sizes: SHOE_SIZES,
    pieces: 12,
    opens: -2 * DAY,
    closes: 90 * SECOND,
    entries: 64,
  },
  {
    slug: "meridian-runner",
    title: "Meridian Runner",
    subtitle: "Ripstop, suede, one red line",
    story:
      "A long-distance shoe drawn along a single line, from heel to toe, and built back from there. Ripstop over suede, a cushioned midsole in two densities, and laces spun from surplus rigging. Sixty pairs.",
    art: "runner",
    priceCents: 24_500,
    sizes: SHOE_SIZES,
    pieces: 60,
    opens: -1 * DAY,
    closes: 2 * DAY + 5 * HOUR,
    entries: 211,
  },
  {
    slug: "nocturne-coat",
    title: "Nocturne Coat",
    subtitle: "Double-faced wool, cut on the bias",
    story:
      "One length of double-faced wool, folded rather than lined, with a collar that stands on its own in the wind. It is woven in a mill with four looms and takes nine hours to sew. Forty coats, then the pattern is retired.",
    art: "coat",
    priceCents: 89_000,
    sizes: CLOTHES_SIZES,
    pieces: 40,
    opens: -3 * DAY,
    closes: 5 * DAY + 3 * HOUR,
    entries: 118,
  },
  {
    slug: "basalt-boot",
    title: "Basalt Boot",
    subtitle: "Vegetable-tanned, resoled for life",
    story:
      "Oak bark, eleven months in the pit, and a welt that can be opened and closed again for as long as you walk. Thirty pairs in volcanic black. We resole them for life.",
    art: "boot",
    priceCents: 46_000,
    sizes: SHOE_SIZES,
    pieces: 30,
    opens: 2 * DAY,
    closes: 6 * DAY,
    entries: 0,
  },
  {
    slug: "harbour-tote",
    title: "Harbour Tote",
    subtitle: "Waxed canvas, bridle leather",
    story:
      "The bag our pattern cutters carry: waxed sailcloth, bridle-leather handles saddle-stitched by hand, and a base that stands in a puddle. Fifty, each with the initials of the person who made it.",
    art: "tote",
    priceCents: 34_000,
    sizes: "One size",
    pieces: 50,
    opens: 6 * DAY,
    closes: 10 * DAY,
    entries: 0,
  },
  {
    slug: "aurora-knit",
    title: "Aurora Knit",
    subtitle: "Hand-framed lambswool",
    story:
      "Nine colours of lambswool on a hand frame from 1961. The pattern follows the northern lights over one recorded night, row by row, from dusk at the hem to dawn at the collar. Twenty-four jumpers.",
    art: "knit",
    priceCents: 39_500,
    sizes: CLOTHES_SIZES,
    pieces: 24,
    opens: -8 * DAY,
    closes: -1 * DAY,
    entries: 143,
  },
  {
    slug: "acceptance-check",
    title: "Acceptance check",
    subtitle: "Not for sale",
    story:
      "A hidden launch. The acceptance tests enter it after every deployment; its entries are forgotten after a day.",
    art: "tote",
    priceCents: 100,
    sizes: "One size,Other size",
    pieces: 1,
    hidden: 1,
    opens: -1 * DAY,
    closes: 3_650 * DAY,
    entries: 0,
  },
];

const NAMES =
  "ada,ben,carla,dario,elif,femi,greta,hugo,ines,jonas,kaia,lior,marta,nils,oona,pavel,quinn,rosa,sami,tove,uma,vito,wren,yara,zeno".split(
    ",",
  );

/**
 * Adds the demo launches that are missing, with times relative to now. Repeating it adds nothing.
 * @param {import("./database.js").Database} database
 * @returns {Promise<string[]>} the slugs that were added
 */
export async function addDemoData(database) {
  const added = [];
  for (const launch of DEMO_LAUNCHES) if (await addLaunch(database, launch)) added.push(launch.slug);
  return added;
}

async function addLaunch(database, launch) {
  return database.transaction(async (query) => {
    const [exists] = await query("SELECT id FROM launches WHERE slug = ?", [launch.slug]);
    if (exists) return false;
    const seed = newSeed();
    const { insertId } = await query(
      `INSERT INTO launches (slug, title, subtitle, story, art, price_cents, currency, sizes, pieces, hidden, opens_at, closes_at, seed, commitment)
       VALUES (?, ?, ?, ?, ?, ?, 'EUR', ?, ?, ?, UTC_TIMESTAMP(3) + INTERVAL ? SECOND, UTC_TIMESTAMP(3) + INTERVAL ? SECOND, ?, ?)`,
      [
        launch.slug,
        launch.title,
        launch.subtitle,
        launch.story,
        launch.art,
        launch.priceCents,
        launch.sizes,
        launch.pieces,
        launch.hidden ?? 0,
        launch.opens,
        launch.closes,
        seed,
        commitmentOf(seed),
      ],
    );
    if (launch.entries > 0)
      await query("INSERT INTO entries (ticket, launch_id, email_key, email, size, entered_at) VALUES ?", [
        demoEntries(insertId, launch),
      ]);
    return true;
  });
}

/** People who entered before the demo began, spread over the time the launch has been open. */
function demoEntries(launchId, launch) {
  const sizes = launch.sizes.split(",");
  const openSeconds = Math.min(0, launch.closes) - launch.opens;
  return Array.from({ length: launch.entries }, (_, index) => {
    const email = `${NAMES[index % NAMES.length]}${index}@example.com`;
    const enteredAt = new Date(Date.now() + (launch.opens + (openSeconds * index) / launch.entries) * 1_000);
    return [newTicket(), launchId, emailKey(email), email, sizes[(index * 7) % sizes.length], enteredAt];
  });
}
