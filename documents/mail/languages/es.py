"""Spanish."""

from documents.mail.words import MailWords

WORDS = MailWords(
    hello="Hola, {name}:",
    hello_nobody="Hola:",
    confirmed_subject="Su pedido {order}",
    confirmed="Gracias por su pedido {order}. Está confirmado.",
    shipped_subject="Su pedido {order} está en camino",
    shipped="Su pedido {order} ha sido enviado.",
    delivered_subject="Su pedido {order} ha sido entregado",
    delivered="Su pedido {order} ha sido entregado.",
    document_subject="{title} de su pedido {order}",
    attached="Adjuntamos en PDF, para su pedido {order}: {title}.",
    linked="Disponible en PDF, para su pedido {order}: {title}.",
    link="Abrir el PDF",
    too_large=(
        "Documento emitido para su pedido {order}: {title}."
        " El PDF es demasiado grande para un correo: pídalo respondiendo a este mensaje."
    ),
    deliver_to="Dirección de entrega",
    amount="Importe",
    more_lines="y {count} más",
    questions="¿Preguntas? Responda a este correo.",
    automatic="Este correo se ha enviado automáticamente.",
    test_subject="Correo de prueba de {shop}",
    test="Esto es una prueba. Los clientes de {shop} reciben correos desde esta dirección.",
    disabled_subject="Se ha desactivado un punto de conexión de webhooks",
    disabled_failing="No se ha podido entregar nada a {url} desde hace {days} días. Se ha desactivado.",
    disabled_gone="{url} ha respondido 410 (Gone). Se ha desactivado.",
    disabled_next="No se le envía nada hasta que vuelva a estar activo. Lo pendiente se enviará entonces.",
)
