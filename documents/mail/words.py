"""The words of mails in one language, beside those that documents have too."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class MailWords:
    """Each text as it is mailed; braces name what they hold."""

    #: With the buyer's name, and where it can't be used.
    hello: str
    hello_nobody: str
    confirmed_subject: str
    confirmed: str
    shipped_subject: str
    shipped: str
    delivered_subject: str
    delivered: str
    #: `{title}` is what the document calls itself, with its number.
    document_subject: str
    #: The PDF is in the mail; `{title}` stands where no gender or case would change it.
    attached: str
    linked: str
    link: str
    too_large: str
    deliver_to: str
    amount: str
    more_lines: str
    questions: str
    automatic: str
    test_subject: str
    test: str
    disabled_subject: str
    #: For days nothing was delivered to the endpoint; or it answered 410.
    disabled_failing: str
    disabled_gone: str
    disabled_next: str
