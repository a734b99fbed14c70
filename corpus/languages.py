"""
A few sentences in many languages and scripts, on which programs are compared that must do the same with every text.
"""

LANGUAGES = {
    "english": (
        "The ferry left at 7:45, a little late. \"Don't worry,\" said Anna, \"it's only 3.5 miles.\"\n\n"
        "Her mother-in-law had packed 1,200 grams of bread, well-known cheese and two apples; nobody was hungry.\n"
        "By noon the fog had gone (as always), and they could see the light-house."
    ),
    "german": (
        "„Wo bleibt der Schlüssel?“, fragte die Tür­hüterin. Er lag seit 1987 unter der Fußmatte – naß, aber heil.\n"
        "Die Straßenbahn kostet 2,80 Euro; wer z.B. am 1. Mai fährt, zahlt nichts.\n\n"
        "Über Öl und Äpfel spricht man später."
    ),
    "french": (
        "« L’été dernier, dit-elle, j’ai planté 25 rosiers… » Qu’est-ce qu’il en reste ? Presque rien !\n"
        "Aujourd’hui le garçon vend des œufs : 0,30 € la pièce.\nNoël approche, et le cœur n’y est pas."
    ),
    "spanish": (
        "—¿Quién llamó a las 6.30? —preguntó el niño—. ¡No fui yo!\n"
        "La señora contestó: «Mañana lloverá, según dicen». El camión llevaba 1.500 kilos de piñas."
    ),
    "polish": (
        "„Gdzie jest żółta łódź?” – zapytał Świętosław. Odpłynęła o 5.15, jak co dzień.\n"
        "W sklepie zostało 12 jabłek i źle zważona mąka. Pójdźmy, zanim zamkną!"
    ),
    "russian": (
        "«Кто взял мой зонт?» — спросил сосед. Никто не ответил: все смотрели на дождь.\n\n"
        "В 1994 году дом стоил 3,5 тысячи рублей. Где-то внизу кто-то играл на скрипке; ёлка ещё не осыпалась."
    ),
    "greek": (
        "«Πού πάει ο δρόμος;» ρώτησε το παιδί. Κανείς δεν ήξερε, ούτε ο γέρος με τα 2,5 κιλά ψωμί.\n"
        "Ο ήλιος έδυσε στις 20:15· η θάλασσα ησύχασε. Ας γυρίσουμε, λοιπόν!"
    ),
    "arabic": (
        "قال الصياد: «أين القارب؟» ثم نظر إلى البحر. كان عنده ٣٫٥ كيلو من السمك، أي ما يكفي.\n"
        "وفي الساعة 6:30 عادَ الوَلَدُ، وهو يضحك! لم يسأله أحدٌ شيئًا."
    ),
    "hebrew": (
        "\"מי לקח את הסולם?\" שאלה השכנה. בשנת 1972 היו כאן 3 בתים ועץ־תות אחד.\n"
        "צה״ל, ד״ר כהן וגב׳ לוי אכלו יחד. שָׁלוֹם, אמרו כולם!"
    ),
    "persian": (
        "می‌خواهم به کتاب‌خانه بروم، اما نمی‌دانم کجاست. «خانه‌های قدیمی را دیده‌ای؟»\n"
        "در سال ۱۳۹۹ تنها ۲۵ کتاب مانده بود؛ بچه‌ها آن‌ها را برده‌اند!"
    ),
    "hindi": (
        "\"नाव कहाँ है?\" लड़के ने पूछा। किसी ने उत्तर नहीं दिया, क्योंकि वर्षा हो रही थी।\n"
        "बाज़ार में २५ आम और 3.5 किलो चावल थे। क्ष और त्र संयुक्त अक्षर हैं; क्‍ष भी!"
    ),
    "bengali": (
        "“নদীটা কোথায়?” মেয়েটি জিজ্ঞেস করল। সকাল ৭টায় নৌকা ছেড়ে গেছে।\n"
        "বাজারে ১২টি আম ছিল, দাম ৩.৫০ টাকা। চলো, ফিরে যাই!"
    ),
    "tamil": (
        "\"படகு எங்கே?\" என்று சிறுவன் கேட்டான். யாரும் பதில் சொல்லவில்லை; மழை பெய்தது.\n"
        "சந்தையில் 25 மாம்பழங்கள், 3.5 கிலோ அரிசி இருந்தன. வீட்டிற்குப் போகலாம்!"
    ),
    "thai": (
        "เรือออกตอน 7.45 น. แต่ไม่มีใครรอ “ไปไหนกัน” เด็กถาม\n"
        "ตลาดมีมะม่วง ๒๕ ลูก ราคา 1,200 บาท กลับบ้านเถอะ!"
    ),
    "chinese": (
        "“船在哪里？”孩子问。没有人回答，因为正在下雨。\n"
        "市场上有25个芒果，一共3.5公斤。我們回家吧！他用iPhone15拍了一张照片。"
    ),
    "japanese": (
        "「船はどこですか？」と子どもが聞いた。だれも答えなかった。\n"
        "市場にはリンゴが25個、ｶﾆが3.5キロあった。ラーメンを食べて、家へ帰ろう！々〆ヶ"
    ),
    "korean": (
        "“배는 어디에 있어요?” 아이가 물었다. 아무도 대답하지 않았다.\n"
        "시장에는 사과가 25개, 쌀이 3.5kg 있었다. 집으로 돌아가자! 각"
    ),
    "turkish": (
        "\"İskele nerede?\" diye sordu çocuk. Saat 7.45'te gemi kalkmıştı; İzmir'in ışıkları sönüktü.\n"
        "Pazarda 1.200 gram ığdır kayısısı vardı. Şimdi dönelim, öğle oldu!"
    ),
    "vietnamese": (
        "“Con thuyền ở đâu?” đứa bé hỏi. Không ai trả lời, vì trời đang mưa.\n"
        "Chợ có 25 quả xoài, giá 3.500 đồng một quả. Về nhà thôi, muộn rồi! Tiếng Việt"
    ),
    "georgian": (
        "„სად არის ნავი?“ იკითხა ბავშვმა. 1921 წელს აქ მხოლოდ 3 სახლი იდგა.\n"
        "ბაზარში 2,5 კილო ვაშლი იყო. წავიდეთ შინ!"
    ),
    "amharic": (
        "«ጀልባው የት ነው?» ልጁ ጠየቀ። ማንም አልመለሰም፤ ዝናብ ነበረ።\n"
        "በገበያ 25 ማንጎ፣ 3.5 ኪሎ ሩዝ ነበር። ወደ ቤት እንሂድ!"
    ),
}
