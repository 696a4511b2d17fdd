"""Words that follow 'Dr.', 'I am' or 'my wife' with a capital letter without being names.

Messages of patients have capitals anywhere ('Hello Doctor Chest Pain Since Morning'), so symptoms, diseases, parts of
the body and words of the consulting room are here besides the commonest words.
"""

import re

COMMON = """
a about above across actually after afraid african again ago all almost already also although always am american an
and another any anyone anything are as asian ask asked at august away b back bad be because become been before being
below best better between big bit black both british but by call called came can cannot check children christian come
coming completely concerned could currently daily day days dear december deeply did do does doing done down dr during
each early either else eleven even evening ever every everything extremely fact far feb february feel feels felt few
first five for found four friday from full further gave general get gets getting give given go goes going gone good
got great had half happy hard has have having he hello help helped her here hi hindu him his hope how however i if in
indian inside into is it its jan january jewish july june just kindly know last late lately later least less let lets
like little live living long lot low ma'am made madam mainly make male man many march married may maybe me mid middle
might mine mom monday month months more morning most mostly much muslim must my near need needs never new next night
nine no none normal not nothing november now occasionally october of off often ok okay old on once one only or other
our out over own past please possible probably put quite rather read really regarding related respected right said
same saturday saw say says second see seem seen sept september seven several severe she should since sir six slight
slightly so some someone something sometimes soon sorry still strong such suddenly sunday sure take taken takes taking
tell ten than thank thanks that the their them then there these they thing things think third this those though three
through throughout thursday time times to today told tomorrow tonight too took total tried try trying tuesday turned
twice two type under unable unfortunately until up upon upset us use used usually very wait want was we wednesday week
weekly weeks well went were what when where whether which while white who whole whose why will with without woman
working worried would wrong year years yes yesterday yet you young your yours yourself
"""
CONSULTING = """
buddy everyone folks mam member mum mummy parent user users
administered admitted adult advice advised age aged allergic allergy ambulance antenatal antibiotic antibiotics
appointment assistant baby blood boy breast breastfeeding brother by capsule cardiology case cell child clinic
clinical community complaint condition consultant consultation control cream cure dad daughter dental dentist
department dermatology diabetic diagnosed diagnosis diet discharge discharged disease diseases disorder doctor doctors
doppler dosage dose drug drugs ecg echo emergency exam examination examine examined exercise family father fee female
friend gel general gentleman girl girlfriend government gp gynae gynaecologist hospital husband infant infection
infections injection injury insurance internal kid lab lady level lmp local male medical medication medications
medicine medicines menses mild moderate mother mri negative neurology newborn nurse office oncology operated operation
opinion orthopaedic orthopedic outpatient paediatric parents partner patient patients pediatric physician pill pills
positive practitioner pregnancy pregnant prescribed prescription private problem problems procedure psychiatry public
pulmonary pulmonology radiology recommended referred regimen report reports resident result results scan sister smoker
smoking son specialist specialists staff status student suffer suffering suffers suggested suggests surgeon surgery
surgical symptom symptoms syndrome syrup tablet tablets teenager test tested tests therapist therapy treatment
trimester tumor tumour ultrasound uncle urgent urology vaccinated vaccine vegetarian virgin virus vital vitals walk-in
weight wife xray
"""
BODY_AND_SYMPTOMS = """
abdomen abdominal abnormal abscess ache aches acid acidity acne acute adhd aids alcohol anaemia anaemic anal anemia
anemic ankle anxiety anxious appendix appetite arm arms arthritis asthma asthmatic attack autism autistic back
bacterial belly bile bipolar bladder bleeding blister blisters blood blurred body bone bones bowel brain breath
breathing breathless bruise bruises bump bumps burn burning calf cancer cardiac cataract celiac cervical chest chills
cholesterol chronic circumcised cold colon confused congestion constipated constipation copd cough coughing covid
covid-19 cramp cramps crohn crohns cyst dehydrated dengue depressed depression diabetes diarrhea diarrhoea digestion
discomfort dizziness dizzy down drowsy dry ear ears eczema elbow epilepsy epileptic erection exhausted eye eyes face
facial faint fatigue fatty feet fever feverish fibroid fibroids finger fingers fissure flu foot fracture fungal gall
gas gastric genital giddiness gland glands graves groin gum gums hair hand hands hashimoto head headache headaches
heart heartburn heel hemorrhoids hepatitis hernia herpes high hip hiv hives hormonal hot hypertension hypertensive ill
impotent infected infertile inflamed inflammation injured insomnia intestine irregular itch itching itchy jaundice jaw
joint joints kidney kidneys knee knees leg legs lesion leukemia lip lips liver loose lump lumps lung lungs lupus lyme
lymph malaria menopausal menstrual migraine migraines mouth mucus muscle muscles nausea nauseous neck nerve nerves
nipple nose numb numbness obese ocd oral osteoporosis ovarian overweight ovary pain painful pains palpitation
palpitations panic paralyzed parkinson pcod pcos pelvic penis period periods phlegm piles pimple pimples pneumonia
pressure prostate ptsd pulse pus rash rashes rectal red renal rh rib ribs ringing runny sad scalp schizophrenic semen
sensation sensitive severe sexual shaking shivering shortness shoulder sick sinus skin sleep sleepy smear sneezing
sore spasm sperm spinal spine spleen spot spots sputum stiff stiffness stomach stones stool stools stress stressed
stroke sugar sweating swelling swollen tb tender testicle testicles testicular thigh thin throat throbbing thyroid
tingling tinnitus tired toe tongue tonsils tooth tuberculosis typhoid ulcer ulcers underweight unwell uric urinary
urine urticaria uterine uterus vagina vaginal vein veins vertigo viral vision vitamin vomit vomiting weak weakness
wheezing womb worms wound wrist zoster
"""
NOT_NAMES = frozenset((COMMON + CONSULTING + BODY_AND_SYMPTOMS).split())
# Endings of verbs, diseases, operations and drugs that no frequent name has.
MEDICAL_ENDING = re.compile(
    r".{3,}(?:ing|itis|osis|aemia|emia|opathy|algia|ectomy|oscopy|cillin|mycin|cycline|azole|sartan|statin|olol|dipine"
    r"|prazole|floxacin|oxetine|azepam|azolam|formin|tidine|profen|setron|gliptin)"
)


def is_no_name(word: str) -> bool:
    """Whether a word in lower case cannot be a name."""
    return word in NOT_NAMES or bool(MEDICAL_ENDING.fullmatch(word))
