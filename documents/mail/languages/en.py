"""English."""

from documents.mail.words import MailWords

WORDS = MailWords(
    hello="Hello {name},",
    hello_nobody="Hello,",
    confirmed_subject="Your order {order}",
    confirmed="Thank you for your order {order}. It is confirmed.",
    shipped_subject="Your order {order} is on its way",
    shipped="Your order {order} has been shipped.",
    delivered_subject="Your order {order} has been delivered",
    delivered="Your order {order} has been delivered.",
    document_subject="{title} for your order {order}",
    attached="Attached as a PDF, for your order {order}: {title}.",
    linked="Ready for you as a PDF, for your order {order}: {title}.",
    link="Open the PDF",
    too_large=(
        "Issued for your order {order}: {title}. The PDF is too large for an e-mail: please ask for it by replying."
    ),
    deliver_to="Delivery address",
    amount="Amount",
    more_lines="and {count} more",
    questions="Questions? Just reply to this e-mail.",
    automatic="This e-mail was sent automatically.",
    test_subject="Test e-mail of {shop}",
    test="This is a test. Buyers of {shop} receive e-mails from this address.",
    disabled_subject="A webhook endpoint was disabled",
    disabled_failing="No event could be delivered to {url} for {days} days. The endpoint was disabled.",
    disabled_gone="{url} answered 410 (Gone). The endpoint was disabled.",
    disabled_next="Nothing is sent to it until it is active again. What was open is then sent.",
)
