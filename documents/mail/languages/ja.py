"""Japanese."""

from documents.mail.words import MailWords

WORDS = MailWords(
    hello="{name} 様",
    hello_nobody="お客様",
    confirmed_subject="ご注文 {order}",
    confirmed="ご注文 {order} を承りました。ありがとうございます。",
    shipped_subject="ご注文 {order} を発送しました",
    shipped="ご注文 {order} を発送しました。",
    delivered_subject="ご注文 {order} をお届けしました",
    delivered="ご注文 {order} をお届けしました。",
    document_subject="ご注文 {order} の{title}",
    attached="ご注文 {order} の{title}をPDFで添付しました。",
    linked="ご注文 {order} の{title}をPDFでご覧いただけます。",
    link="PDFを開く",
    too_large=(
        "ご注文 {order} の{title}を発行しました。PDFはメールには大きすぎるため、このメールへの返信でご請求ください。"
    ),
    deliver_to="お届け先",
    amount="金額",
    more_lines="ほか {count} 点",
    questions="ご不明な点は、このメールにご返信ください。",
    automatic="このメールは自動送信です。",
    test_subject="{shop} のテストメール",
    test="これはテストです。{shop} のお客様はこのアドレスからメールを受け取ります。",
    disabled_subject="Webhookのエンドポイントが無効になりました",
    disabled_failing="{url} へ {days} 日間何も届けられなかったため、エンドポイントを無効にしました。",
    disabled_gone="{url} が 410 (Gone) を返したため、エンドポイントを無効にしました。",
    disabled_next="再び有効になるまで何も送信されません。未送信のものはその後に送信されます。",
)
