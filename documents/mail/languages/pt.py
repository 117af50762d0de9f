"""Portuguese."""

from documents.mail.words import MailWords

WORDS = MailWords(
    hello="Olá, {name},",
    hello_nobody="Olá,",
    confirmed_subject="A sua encomenda {order}",
    confirmed="Obrigado pela sua encomenda {order}. Está confirmada.",
    shipped_subject="A sua encomenda {order} está a caminho",
    shipped="A sua encomenda {order} foi enviada.",
    delivered_subject="A sua encomenda {order} foi entregue",
    delivered="A sua encomenda {order} foi entregue.",
    document_subject="{title} da sua encomenda {order}",
    attached="Em anexo, em PDF, para a sua encomenda {order}: {title}.",
    linked="Disponível em PDF, para a sua encomenda {order}: {title}.",
    link="Abrir o PDF",
    too_large=(
        "Documento emitido para a sua encomenda {order}: {title}."
        " O PDF é demasiado grande para um e-mail: peça-o respondendo a esta mensagem."
    ),
    deliver_to="Endereço de entrega",
    amount="Valor",
    more_lines="e mais {count}",
    questions="Perguntas? Responda a este e-mail.",
    automatic="Este e-mail foi enviado automaticamente.",
    test_subject="E-mail de teste de {shop}",
    test="Isto é um teste. Os clientes de {shop} recebem e-mails deste endereço.",
    disabled_subject="Um endpoint de webhooks foi desativado",
    disabled_failing="Há {days} dias que nada pôde ser entregue em {url}. O endpoint foi desativado.",
    disabled_gone="{url} respondeu 410 (Gone). O endpoint foi desativado.",
    disabled_next="Nada lhe é enviado até estar de novo ativo. O que estava pendente é então enviado.",
)
