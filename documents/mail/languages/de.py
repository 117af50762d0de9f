"""German."""

from documents.mail.words import MailWords

WORDS = MailWords(
    hello="Guten Tag {name},",
    hello_nobody="Guten Tag,",
    confirmed_subject="Ihre Bestellung {order}",
    confirmed="vielen Dank für Ihre Bestellung {order}. Sie ist bestätigt.",
    shipped_subject="Ihre Bestellung {order} ist unterwegs",
    shipped="Ihre Bestellung {order} wurde versandt.",
    delivered_subject="Ihre Bestellung {order} wurde zugestellt",
    delivered="Ihre Bestellung {order} wurde zugestellt.",
    document_subject="{title} zu Ihrer Bestellung {order}",
    attached="im Anhang finden Sie als PDF zu Ihrer Bestellung {order}: {title}.",
    linked="zu Ihrer Bestellung {order} steht als PDF bereit: {title}.",
    link="PDF öffnen",
    too_large=(
        "zu Ihrer Bestellung {order} wurde ausgestellt: {title}."
        " Das PDF ist zu groß für eine E-Mail: bitte fordern Sie es als Antwort auf diese E-Mail an."
    ),
    deliver_to="Lieferadresse",
    amount="Betrag",
    more_lines="und {count} weitere",
    questions="Fragen? Antworten Sie einfach auf diese E-Mail.",
    automatic="Diese E-Mail wurde automatisch versandt.",
    test_subject="Test-E-Mail von {shop}",
    test="dies ist ein Test. Von dieser Adresse erhalten die Kunden von {shop} E-Mails.",
    disabled_subject="Ein Webhook-Endpunkt wurde abgeschaltet",
    disabled_failing="an {url} konnte seit {days} Tagen nichts zugestellt werden. Der Endpunkt wurde abgeschaltet.",
    disabled_gone="{url} hat mit 410 (Gone) geantwortet. Der Endpunkt wurde abgeschaltet.",
    disabled_next="Bis er wieder aktiv ist, wird ihm nichts gesendet. Was offen war, wird dann gesendet.",
)
