"""French."""

from documents.mail.words import MailWords

WORDS = MailWords(
    hello="Bonjour {name},",
    hello_nobody="Bonjour,",
    confirmed_subject="Votre commande {order}",
    confirmed="Merci pour votre commande {order}. Elle est confirmée.",
    shipped_subject="Votre commande {order} est en route",
    shipped="Votre commande {order} a été expédiée.",
    delivered_subject="Votre commande {order} a été livrée",
    delivered="Votre commande {order} a été livrée.",
    document_subject="{title} pour votre commande {order}",
    attached="Vous trouverez en pièce jointe, au format PDF, pour votre commande {order} : {title}.",
    linked="À votre disposition au format PDF, pour votre commande {order} : {title}.",
    link="Ouvrir le PDF",
    too_large=(
        "Document émis pour votre commande {order} : {title}."
        " Le PDF est trop volumineux pour un e-mail : demandez-le en répondant à ce message."
    ),
    deliver_to="Adresse de livraison",
    amount="Montant",
    more_lines="et {count} de plus",
    questions="Une question ? Répondez simplement à cet e-mail.",
    automatic="Cet e-mail a été envoyé automatiquement.",
    test_subject="E-mail de test de {shop}",
    test="Ceci est un test. Les clients de {shop} reçoivent des e-mails de cette adresse.",
    disabled_subject="Un point de terminaison webhook a été désactivé",
    disabled_failing="Rien n’a pu être livré à {url} depuis {days} jours. Le point de terminaison a été désactivé.",
    disabled_gone="{url} a répondu 410 (Gone). Le point de terminaison a été désactivé.",
    disabled_next="Rien ne lui est envoyé jusqu’à sa réactivation. Les envois en attente partiront alors.",
)
