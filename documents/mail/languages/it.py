"""Italian."""

from documents.mail.words import MailWords

WORDS = MailWords(
    hello="Buongiorno {name},",
    hello_nobody="Buongiorno,",
    confirmed_subject="Il Suo ordine {order}",
    confirmed="grazie per il Suo ordine {order}. È confermato.",
    shipped_subject="Il Suo ordine {order} è in viaggio",
    shipped="il Suo ordine {order} è stato spedito.",
    delivered_subject="Il Suo ordine {order} è stato consegnato",
    delivered="il Suo ordine {order} è stato consegnato.",
    document_subject="{title} per il Suo ordine {order}",
    attached="in allegato trova in PDF, per il Suo ordine {order}: {title}.",
    linked="è disponibile in PDF, per il Suo ordine {order}: {title}.",
    link="Apri il PDF",
    too_large=(
        "è stato emesso per il Suo ordine {order}: {title}."
        " Il PDF è troppo grande per un’e-mail: lo richieda rispondendo a questo messaggio."
    ),
    deliver_to="Indirizzo di consegna",
    amount="Importo",
    more_lines="e altri {count}",
    questions="Domande? Risponda a questa e-mail.",
    automatic="Questa e-mail è stata inviata automaticamente.",
    test_subject="E-mail di prova di {shop}",
    test="questa è una prova. I clienti di {shop} ricevono e-mail da questo indirizzo.",
    disabled_subject="Un endpoint webhook è stato disattivato",
    disabled_failing="da {days} giorni non è stato possibile consegnare nulla a {url}. L’endpoint è stato disattivato.",
    disabled_gone="{url} ha risposto 410 (Gone). L’endpoint è stato disattivato.",
    disabled_next=(
        "Non gli viene inviato nulla finché non è di nuovo attivo. Ciò che era in sospeso viene inviato allora."
    ),
)
