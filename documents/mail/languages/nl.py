"""Dutch."""

from documents.mail.words import MailWords

WORDS = MailWords(
    hello="Goedendag {name},",
    hello_nobody="Goedendag,",
    confirmed_subject="Uw bestelling {order}",
    confirmed="Bedankt voor uw bestelling {order}. Deze is bevestigd.",
    shipped_subject="Uw bestelling {order} is onderweg",
    shipped="Uw bestelling {order} is verzonden.",
    delivered_subject="Uw bestelling {order} is bezorgd",
    delivered="Uw bestelling {order} is bezorgd.",
    document_subject="{title} bij uw bestelling {order}",
    attached="In de bijlage vindt u als pdf bij uw bestelling {order}: {title}.",
    linked="Bij uw bestelling {order} staat als pdf klaar: {title}.",
    link="Pdf openen",
    too_large=(
        "Bij uw bestelling {order} is opgemaakt: {title}."
        " De pdf is te groot voor een e-mail: vraag erom door te antwoorden op dit bericht."
    ),
    deliver_to="Bezorgadres",
    amount="Bedrag",
    more_lines="en nog {count}",
    questions="Vragen? Beantwoord gewoon deze e-mail.",
    automatic="Deze e-mail is automatisch verzonden.",
    test_subject="Test-e-mail van {shop}",
    test="Dit is een test. Klanten van {shop} ontvangen e-mails van dit adres.",
    disabled_subject="Een webhook-endpoint is uitgeschakeld",
    disabled_failing="Er kon {days} dagen lang niets worden bezorgd bij {url}. Het endpoint is uitgeschakeld.",
    disabled_gone="{url} antwoordde 410 (Gone). Het endpoint is uitgeschakeld.",
    disabled_next="Er wordt niets naartoe gestuurd tot het weer actief is. Wat openstond, wordt dan verzonden.",
)
