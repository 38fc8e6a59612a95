import { generateKeyPairSync, randomBytes, sign } from "node:crypto";

export type Certificate = { der: Buffer; pem: string; key: string };

/**
 * A self-signed P-256 certificate for `localhost`, good for a day: as go-plugin's own side of auto-mTLS makes one. Node can read certificates and not
 * issue them. The kept library that can, @peculiar/x509, brings 40 packages and takes 100 ms to load, and Terraform starts a provider four
 * times for an apply; what is needed here is one fixed shape of DER (RFC 5280).
 */
export function newCertificate(now = Date.now()): Certificate {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const name = sequence(set(sequence(oid(COMMON_NAME), der(UTF8, Buffer.from("localhost")))));
  const algorithm = sequence(oid(ECDSA_WITH_SHA256));
  const toBeSigned = sequence(
    der(CONTEXT | 0, der(INTEGER, Buffer.of(2))), // version 3
    der(INTEGER, Buffer.concat([Buffer.of(1), randomBytes(15)])),
    algorithm,
    name, // issuer
    sequence(time(now - MINUTE_MS), time(now + DAY_MS)),
    name, // subject
    publicKey.export({ type: "spki", format: "der" }),
    der(
      CONTEXT | 3,
      sequence(
        extension(SUBJECT_ALT_NAME, sequence(der(DNS_NAME, Buffer.from("localhost")))),
        // Each side takes the other's certificate as its only root.
        extension(BASIC_CONSTRAINTS, sequence(der(BOOLEAN, Buffer.of(0xff)))),
        extension(EXTENDED_KEY_USAGE, sequence(oid(SERVER_AUTH), oid(CLIENT_AUTH))),
      ),
    ),
  );
  const signature = sign("sha256", toBeSigned, privateKey);
  const whole = sequence(toBeSigned, algorithm, der(BIT_STRING, Buffer.concat([Buffer.of(0), signature])));
  const lines = whole.toString("base64").match(/.{1,64}/g) ?? [];
  return {
    der: whole,
    pem: `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`,
    key: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
  };
}

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;

const [BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, OID, UTF8, UTC_TIME] = [0x01, 0x02, 0x03, 0x04, 0x06, 0x0c, 0x17];
const [SEQUENCE, SET, DNS_NAME, CONTEXT] = [0x30, 0x31, 0x82, 0xa0];

// Object identifiers, already in DER.
const ECDSA_WITH_SHA256 = "2a8648ce3d040302"; // 1.2.840.10045.4.3.2
const COMMON_NAME = "550403"; // 2.5.4.3
const SUBJECT_ALT_NAME = "551d11"; // 2.5.29.17
const BASIC_CONSTRAINTS = "551d13"; // 2.5.29.19
const EXTENDED_KEY_USAGE = "551d25"; // 2.5.29.37
const SERVER_AUTH = "2b06010505070301"; // 1.3.6.1.5.5.7.3.1
const CLIENT_AUTH = "2b06010505070302"; // 1.3.6.1.5.5.7.3.2

function der(tag: number, content: Buffer): Buffer {
  const { length } = content;
  const long = length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...(length < 0x80 ? [length] : long)]), content]);
}

const sequence = (...parts: Buffer[]): Buffer => der(SEQUENCE, Buffer.concat(parts));
const set = (...parts: Buffer[]): Buffer => der(SET, Buffer.concat(parts));
const oid = (hex: string): Buffer => der(OID, Buffer.from(hex, "hex"));
const extension = (id: string, value: Buffer): Buffer => sequence(oid(id), der(OCTET_STRING, value));

/** `YYMMDDHHMMSSZ`, which RFC 5280 asks for until 2049. */
function time(at: number): Buffer {
  const digits = new Date(at).toISOString().replace(/[-:T]/g, "");
  return der(UTC_TIME, Buffer.from(`${digits.slice(2, 14)}Z`));
}
