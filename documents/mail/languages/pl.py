"""Polish."""

from documents.mail.words import MailWords

WORDS = MailWords(
    hello="Dzień dobry, {name},",
    hello_nobody="Dzień dobry,",
    confirmed_subject="Zamówienie {order}",
    confirmed="dziękujemy za zamówienie {order}. Zostało potwierdzone.",
    shipped_subject="Zamówienie {order} jest w drodze",
    shipped="zamówienie {order} zostało wysłane.",
    delivered_subject="Zamówienie {order} zostało dostarczone",
    delivered="zamówienie {order} zostało dostarczone.",
    document_subject="{title} do zamówienia {order}",
    attached="w załączniku przesyłamy w formacie PDF do zamówienia {order}: {title}.",
    linked="do zamówienia {order} jest gotowy dokument PDF: {title}.",
    link="Otwórz PDF",
    too_large=(
        "do zamówienia {order} wystawiono dokument: {title}."
        " Plik PDF jest za duży na e-mail: prosimy o niego poprosić, odpowiadając na tę wiadomość."
    ),
    deliver_to="Adres dostawy",
    amount="Kwota",
    more_lines="i jeszcze {count}",
    questions="Pytania? Wystarczy odpowiedzieć na tę wiadomość.",
    automatic="Ta wiadomość została wysłana automatycznie.",
    test_subject="Wiadomość testowa: {shop}",
    test="to jest test. Klienci {shop} otrzymują wiadomości z tego adresu.",
    disabled_subject="Punkt końcowy webhooka został wyłączony",
    disabled_failing="od {days} dni nie udało się niczego dostarczyć pod adres {url}. Punkt końcowy został wyłączony.",
    disabled_gone="{url} odpowiedział 410 (Gone). Punkt końcowy został wyłączony.",
    disabled_next="Nic nie jest tam wysyłane, dopóki nie będzie znów aktywny. Zaległe zdarzenia zostaną wtedy wysłane.",
)
