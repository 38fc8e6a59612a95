/** One @, a dotted domain, no spaces or control characters. The confirmation e-mail is the real test of an address. */
const ADDRESS =
  /^[^\s@"<>(),;:\\[\]]{1,64}@(?=.{4,189}$)([\p{L}\p{N}]([\p{L}\p{N}-]{0,61}[\p{L}\p{N}])?\.)+[\p{L}]{2,63}$/u;

export const isEmail = (text) => ADDRESS.test(text);

/**
 * The form that decides who is the same person: lower case, without a `+tag`, and without the dots Gmail ignores.
 * @param {string} email
 */
export function emailKey(email) {
  const address = email.normalize("NFKC").trim().toLowerCase();
  const at = address.lastIndexOf("@");
  const host = address.slice(at + 1) === "googlemail.com" ? "gmail.com" : address.slice(at + 1);
  const name = address.slice(0, at).replace(/(?<=.)\+.*$/, "");
  return `${host === "gmail.com" ? name.replaceAll(".", "") : name}@${host}`;
}

/** `marta.holm@example.com` → `m•••@e•••.com`: the owner recognises it, nobody else can write to it. */
export function maskEmail(email) {
  const [name = "", host = ""] = email.split("@");
  return `${[...name][0] ?? ""}•••@${[...host][0] ?? ""}•••${host.slice(host.lastIndexOf("."))}`;
}
