"""The words of the tracking page in each language, beside those that mails and documents have too."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class TrackingWords:
    """Each text as it is shown."""

    #: How the order is doing, in a sentence for each state.
    received: str
    awaiting_payment: str
    confirmed: str
    shipped: str
    delivered: str
    cancelled: str
    refunded: str
    refused: str
    #: The heading over the steps, and their names.
    progress: str
    step_ordered: str
    step_confirmed: str
    step_shipped: str
    step_delivered: str
    step_cancelled: str
    step_refunded: str
    #: What a screen reader says of a step that is to come.
    to_come: str
    parcel: str
    carrier: str
    tracking_number: str
    follow_parcel: str
    items: str
    documents: str
    refunds: str
    #: Of a refund: it is under way, or done.
    refund_requested: str
    refund_done: str
    #: `{time}` is when we last knew.
    stale: str
    #: In mails.
    follow: str
    #: Titles and sentences of pages that show no order.
    unknown_title: str
    unknown: str
    expired_title: str
    expired: str
    unavailable_title: str
    unavailable: str


EN = TrackingWords(
    received="We have received your order.",
    awaiting_payment="We are waiting for your payment.",
    confirmed="Your order is confirmed. We are preparing it.",
    shipped="Your order is on its way.",
    delivered="Your order has been delivered.",
    cancelled="Your order was cancelled.",
    refunded="Your order was refunded.",
    refused="We could not accept your order.",
    progress="Progress",
    step_ordered="Ordered",
    step_confirmed="Confirmed",
    step_shipped="Shipped",
    step_delivered="Delivered",
    step_cancelled="Cancelled",
    step_refunded="Refunded",
    to_come="to come",
    parcel="Parcel",
    carrier="Carrier",
    tracking_number="Tracking number",
    follow_parcel="Follow the parcel",
    items="Items",
    documents="Documents",
    refunds="Refunds",
    refund_requested="under way",
    refund_done="paid back",
    stale="We can't reach our records at the moment. This is how it was on {time}.",
    follow="Follow your order",
    unknown_title="This link leads to no order",
    unknown="It is incomplete, or it was withdrawn. The shop can send you a new one.",
    expired_title="This link has expired",
    expired="The shop can send you a new one.",
    unavailable_title="The page is unavailable at the moment",
    unavailable="Please try again in a minute.",
)

DE = TrackingWords(
    received="Wir haben Ihre Bestellung erhalten.",
    awaiting_payment="Wir warten auf Ihre Zahlung.",
    confirmed="Ihre Bestellung ist bestätigt. Wir bereiten sie vor.",
    shipped="Ihre Bestellung ist unterwegs.",
    delivered="Ihre Bestellung wurde zugestellt.",
    cancelled="Ihre Bestellung wurde storniert.",
    refunded="Ihre Bestellung wurde erstattet.",
    refused="Wir konnten Ihre Bestellung nicht annehmen.",
    progress="Verlauf",
    step_ordered="Bestellt",
    step_confirmed="Bestätigt",
    step_shipped="Versandt",
    step_delivered="Zugestellt",
    step_cancelled="Storniert",
    step_refunded="Erstattet",
    to_come="steht noch aus",
    parcel="Sendung",
    carrier="Zusteller",
    tracking_number="Sendungsnummer",
    follow_parcel="Sendung verfolgen",
    items="Artikel",
    documents="Dokumente",
    refunds="Erstattungen",
    refund_requested="in Bearbeitung",
    refund_done="erstattet",
    stale="Unsere Daten sind im Moment nicht erreichbar. Dies ist der Stand vom {time}.",
    follow="Bestellung verfolgen",
    unknown_title="Dieser Link führt zu keiner Bestellung",
    unknown="Er ist unvollständig oder wurde zurückgezogen. Der Shop kann Ihnen einen neuen senden.",
    expired_title="Dieser Link ist abgelaufen",
    expired="Der Shop kann Ihnen einen neuen senden.",
    unavailable_title="Die Seite ist im Moment nicht verfügbar",
    unavailable="Bitte versuchen Sie es in einer Minute noch einmal.",
)

FR = TrackingWords(
    received="Nous avons reçu votre commande.",
    awaiting_payment="Nous attendons votre paiement.",
    confirmed="Votre commande est confirmée. Nous la préparons.",
    shipped="Votre commande est en route.",
    delivered="Votre commande a été livrée.",
    cancelled="Votre commande a été annulée.",
    refunded="Votre commande a été remboursée.",
    refused="Nous n'avons pas pu accepter votre commande.",
    progress="Suivi",
    step_ordered="Commandée",
    step_confirmed="Confirmée",
    step_shipped="Expédiée",
    step_delivered="Livrée",
    step_cancelled="Annulée",
    step_refunded="Remboursée",
    to_come="à venir",
    parcel="Colis",
    carrier="Transporteur",
    tracking_number="Numéro de suivi",
    follow_parcel="Suivre le colis",
    items="Articles",
    documents="Documents",
    refunds="Remboursements",
    refund_requested="en cours",
    refund_done="remboursé",
    stale="Nos données sont momentanément inaccessibles. Voici la situation au {time}.",
    follow="Suivre votre commande",
    unknown_title="Ce lien ne mène à aucune commande",
    unknown="Il est incomplet ou a été retiré. La boutique peut vous en envoyer un nouveau.",
    expired_title="Ce lien a expiré",
    expired="La boutique peut vous en envoyer un nouveau.",
    unavailable_title="La page est momentanément indisponible",
    unavailable="Veuillez réessayer dans une minute.",
)

ES = TrackingWords(
    received="Hemos recibido su pedido.",
    awaiting_payment="Estamos esperando su pago.",
    confirmed="Su pedido está confirmado. Lo estamos preparando.",
    shipped="Su pedido está en camino.",
    delivered="Su pedido ha sido entregado.",
    cancelled="Su pedido ha sido cancelado.",
    refunded="Su pedido ha sido reembolsado.",
    refused="No hemos podido aceptar su pedido.",
    progress="Seguimiento",
    step_ordered="Pedido",
    step_confirmed="Confirmado",
    step_shipped="Enviado",
    step_delivered="Entregado",
    step_cancelled="Cancelado",
    step_refunded="Reembolsado",
    to_come="pendiente",
    parcel="Paquete",
    carrier="Transportista",
    tracking_number="Número de seguimiento",
    follow_parcel="Seguir el paquete",
    items="Artículos",
    documents="Documentos",
    refunds="Reembolsos",
    refund_requested="en curso",
    refund_done="reembolsado",
    stale="Nuestros datos no están disponibles en este momento. Esta era la situación el {time}.",
    follow="Seguir su pedido",
    unknown_title="Este enlace no lleva a ningún pedido",
    unknown="Está incompleto o ha sido retirado. La tienda puede enviarle uno nuevo.",
    expired_title="Este enlace ha caducado",
    expired="La tienda puede enviarle uno nuevo.",
    unavailable_title="La página no está disponible en este momento",
    unavailable="Inténtelo de nuevo dentro de un minuto.",
)

IT = TrackingWords(
    received="Abbiamo ricevuto il Suo ordine.",
    awaiting_payment="Siamo in attesa del Suo pagamento.",
    confirmed="Il Suo ordine è confermato. Lo stiamo preparando.",
    shipped="Il Suo ordine è in viaggio.",
    delivered="Il Suo ordine è stato consegnato.",
    cancelled="Il Suo ordine è stato annullato.",
    refunded="Il Suo ordine è stato rimborsato.",
    refused="Non abbiamo potuto accettare il Suo ordine.",
    progress="Stato",
    step_ordered="Ordinato",
    step_confirmed="Confermato",
    step_shipped="Spedito",
    step_delivered="Consegnato",
    step_cancelled="Annullato",
    step_refunded="Rimborsato",
    to_come="in attesa",
    parcel="Pacco",
    carrier="Corriere",
    tracking_number="Numero di tracciamento",
    follow_parcel="Segui il pacco",
    items="Articoli",
    documents="Documenti",
    refunds="Rimborsi",
    refund_requested="in corso",
    refund_done="rimborsato",
    stale="I nostri dati non sono raggiungibili al momento. Questa era la situazione il {time}.",
    follow="Segui il Suo ordine",
    unknown_title="Questo link non porta a nessun ordine",
    unknown="È incompleto o è stato ritirato. Il negozio può inviarLe un nuovo link.",
    expired_title="Questo link è scaduto",
    expired="Il negozio può inviarLe un nuovo link.",
    unavailable_title="La pagina non è disponibile al momento",
    unavailable="Riprovi tra un minuto.",
)

PL = TrackingWords(
    received="Otrzymaliśmy Państwa zamówienie.",
    awaiting_payment="Czekamy na Państwa płatność.",
    confirmed="Zamówienie jest potwierdzone. Przygotowujemy je.",
    shipped="Zamówienie jest w drodze.",
    delivered="Zamówienie zostało dostarczone.",
    cancelled="Zamówienie zostało anulowane.",
    refunded="Pieniądze za zamówienie zostały zwrócone.",
    refused="Nie mogliśmy przyjąć zamówienia.",
    progress="Przebieg",
    step_ordered="Zamówione",
    step_confirmed="Potwierdzone",
    step_shipped="Wysłane",
    step_delivered="Dostarczone",
    step_cancelled="Anulowane",
    step_refunded="Zwrócone",
    to_come="jeszcze nie",
    parcel="Przesyłka",
    carrier="Przewoźnik",
    tracking_number="Numer przesyłki",
    follow_parcel="Śledź przesyłkę",
    items="Artykuły",
    documents="Dokumenty",
    refunds="Zwroty pieniędzy",
    refund_requested="w toku",
    refund_done="zwrócono",
    stale="Nasze dane są chwilowo niedostępne. Oto stan na {time}.",
    follow="Śledź zamówienie",
    unknown_title="Ten link nie prowadzi do żadnego zamówienia",
    unknown="Jest niepełny lub został wycofany. Sklep może przesłać nowy.",
    expired_title="Ten link wygasł",
    expired="Sklep może przesłać nowy.",
    unavailable_title="Strona jest chwilowo niedostępna",
    unavailable="Prosimy spróbować ponownie za minutę.",
)

NL = TrackingWords(
    received="We hebben uw bestelling ontvangen.",
    awaiting_payment="We wachten op uw betaling.",
    confirmed="Uw bestelling is bevestigd. We maken deze klaar.",
    shipped="Uw bestelling is onderweg.",
    delivered="Uw bestelling is bezorgd.",
    cancelled="Uw bestelling is geannuleerd.",
    refunded="Uw bestelling is terugbetaald.",
    refused="We konden uw bestelling niet aannemen.",
    progress="Voortgang",
    step_ordered="Besteld",
    step_confirmed="Bevestigd",
    step_shipped="Verzonden",
    step_delivered="Bezorgd",
    step_cancelled="Geannuleerd",
    step_refunded="Terugbetaald",
    to_come="nog niet",
    parcel="Pakket",
    carrier="Bezorger",
    tracking_number="Zendingsnummer",
    follow_parcel="Volg het pakket",
    items="Artikelen",
    documents="Documenten",
    refunds="Terugbetalingen",
    refund_requested="in behandeling",
    refund_done="terugbetaald",
    stale="Onze gegevens zijn op dit moment niet bereikbaar. Dit was de stand op {time}.",
    follow="Volg uw bestelling",
    unknown_title="Deze link leidt naar geen bestelling",
    unknown="De link is onvolledig of ingetrokken. De winkel kan u een nieuwe sturen.",
    expired_title="Deze link is verlopen",
    expired="De winkel kan u een nieuwe sturen.",
    unavailable_title="De pagina is op dit moment niet beschikbaar",
    unavailable="Probeer het over een minuut opnieuw.",
)

PT = TrackingWords(
    received="Recebemos a sua encomenda.",
    awaiting_payment="Aguardamos o seu pagamento.",
    confirmed="A sua encomenda está confirmada. Estamos a prepará-la.",
    shipped="A sua encomenda está a caminho.",
    delivered="A sua encomenda foi entregue.",
    cancelled="A sua encomenda foi cancelada.",
    refunded="A sua encomenda foi reembolsada.",
    refused="Não pudemos aceitar a sua encomenda.",
    progress="Progresso",
    step_ordered="Encomendada",
    step_confirmed="Confirmada",
    step_shipped="Enviada",
    step_delivered="Entregue",
    step_cancelled="Cancelada",
    step_refunded="Reembolsada",
    to_come="por acontecer",
    parcel="Pacote",
    carrier="Transportadora",
    tracking_number="Número de seguimento",
    follow_parcel="Seguir o pacote",
    items="Artigos",
    documents="Documentos",
    refunds="Reembolsos",
    refund_requested="em curso",
    refund_done="reembolsado",
    stale="Os nossos dados estão inacessíveis neste momento. Esta era a situação em {time}.",
    follow="Seguir a sua encomenda",
    unknown_title="Esta ligação não leva a nenhuma encomenda",
    unknown="Está incompleta ou foi retirada. A loja pode enviar-lhe uma nova.",
    expired_title="Esta ligação expirou",
    expired="A loja pode enviar-lhe uma nova.",
    unavailable_title="A página está indisponível neste momento",
    unavailable="Tente novamente dentro de um minuto.",
)

JA = TrackingWords(
    received="ご注文を受け付けました。",
    awaiting_payment="お支払いを確認しています。",
    confirmed="ご注文が確定しました。発送の準備をしています。",
    shipped="ご注文の商品を発送しました。",
    delivered="ご注文の商品をお届けしました。",
    cancelled="ご注文はキャンセルされました。",
    refunded="ご注文の代金を返金しました。",
    refused="ご注文をお受けできませんでした。",
    progress="状況",
    step_ordered="ご注文",
    step_confirmed="確定",
    step_shipped="発送",
    step_delivered="お届け",
    step_cancelled="キャンセル",
    step_refunded="返金",
    to_come="これから",
    parcel="お荷物",
    carrier="配送業者",
    tracking_number="お問い合わせ番号",
    follow_parcel="荷物を追跡する",
    items="商品",
    documents="書類",
    refunds="返金",
    refund_requested="手続き中",
    refund_done="返金済み",
    stale="現在、最新の情報を確認できません。{time} 時点の状況です。",
    follow="ご注文の状況を見る",
    unknown_title="このリンクに該当するご注文がありません",
    unknown="リンクが不完全か、無効になっています。ショップに新しいリンクをご依頼ください。",
    expired_title="このリンクは期限切れです",
    expired="ショップに新しいリンクをご依頼ください。",
    unavailable_title="現在、このページを表示できません",
    unavailable="しばらくしてからもう一度お試しください。",
)

#: By the code of a language.
WORDS = {"en": EN, "de": DE, "fr": FR, "es": ES, "it": IT, "pl": PL, "nl": NL, "pt": PT, "ja": JA}
