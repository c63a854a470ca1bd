/**
 * Making certificates and certificate requests. To be imported when it is needed (`await import`): loading it takes longer than the rest
 * of a program's start. Reading a certificate is node:crypto's business.
 */
import "reflect-metadata"; // the library's dependency injection asks for it

export {
  BasicConstraintsExtension,
  type Extension,
  type JsonGeneralName,
  KeyUsageFlags,
  KeyUsagesExtension,
  Pkcs10CertificateRequestGenerator,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509CertificateGenerator,
} from "@peculiar/x509";
