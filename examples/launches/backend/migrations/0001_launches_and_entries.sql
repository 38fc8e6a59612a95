-- A launch is one limited edition. Times are UTC, and only ever compared with the database's own clock.
CREATE TABLE launches (
  id          INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  slug        VARCHAR(60)  NOT NULL,
  title       VARCHAR(80)  NOT NULL,
  subtitle    VARCHAR(120) NOT NULL,
  story       TEXT         NOT NULL,
  art         VARCHAR(30)  NOT NULL,
  price_cents INT UNSIGNED NOT NULL,
  currency    CHAR(3)      NOT NULL,
  sizes       VARCHAR(255) NOT NULL COMMENT 'separated by commas, in the order to show',
  pieces      INT UNSIGNED NOT NULL COMMENT 'how many entries win',
  hidden      TINYINT(1)   NOT NULL DEFAULT 0 COMMENT 'for acceptance tests; never listed',
  opens_at    DATETIME(3)  NOT NULL,
  closes_at   DATETIME(3)  NOT NULL,
  seed        CHAR(64)     NOT NULL COMMENT '32 random bytes; shown only after the draw',
  commitment  CHAR(64)     NOT NULL COMMENT 'SHA-256 of the seed; public from the start',
  UNIQUE KEY launch_slug (slug),
  KEY launch_closes (closes_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- The ticket is random and public; the address never leaves the database unmasked.
CREATE TABLE entries (
  ticket     CHAR(14) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  launch_id  INT UNSIGNED NOT NULL,
  email_key  VARCHAR(254) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'normalised: decides who is the same person',
  email      VARCHAR(254) NOT NULL COMMENT 'as typed: where we write to',
  size       VARCHAR(20)  NOT NULL,
  entered_at DATETIME(3)  NOT NULL,
  UNIQUE KEY once_per_email (launch_id, email_key),
  CONSTRAINT entry_launch FOREIGN KEY (launch_id) REFERENCES launches (id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
