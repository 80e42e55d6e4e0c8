-- Each CA goes on with the certificate that it serves; an earlier certctl knows no other.
DROP TABLE IF EXISTS authority_certificates;
